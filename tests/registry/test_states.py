"""A release that is withdrawn after it was installed: the snapshot on this machine decides, through both doors (THREATS 39, 40)."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from hubcli import api
from hubcli.api.workspace import Workspace
from hubcli.errors import HubcliError, YankedError
from hubcli.manifest import Installed
from hubcli.progress import Silent
from hubcli.refs import parse_ref
from tests.support.adapters import IndexFolder
from tests.support.cli import Answer, hubcli
from tests.support.composed import compose, composed
from tests.support.static_server import serve

NAME = "acme/films"
OLD, NEW = f"{NAME}@1.0.0", f"{NAME}@1.1.0"
STATES = ("deprecated", "archived", "yanked", "quarantined")


@pytest.fixture
def index(tmp_path: Path, home: Path) -> IndexFolder:
    """acme/films in two versions, both installed."""
    folder = IndexFolder(tmp_path / "index")
    folder.add(NAME, "1.0.0", "1.1.0")
    api.index_add("acme", str(folder.folder))
    api.install(OLD, NEW)
    return folder


def withdraw(index: IndexFolder, ref: str, state: str, **more: Any) -> None:
    if state == "yanked":
        api.yank(ref, reason="label leak", index=index.folder, **more)
    else:
        api.deprecate(ref, status=state, reason="label leak", index=index.folder)


def loaded(ref: str) -> tuple[list[str], HubcliError]:
    """What Python is warned of, and how it ends: the base of these adapters is nowhere."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(HubcliError) as caught:
            api.load_adapter(ref, offline=True)
    return [str(line.message) for line in told if "label leak" in str(line.message)], caught.value


def rows_of_the_help() -> dict[str, str]:
    """The table of `deprecate --help`: status → what becomes of an installed copy."""
    text = hubcli("deprecate", "--help").out.partition("from a lock")[2].partition("Without a version")[0]
    rows = [re.split(r"\s{2,}", line.strip()) for line in text.strip().splitlines()]
    assert all(len(row) == 3 for row in rows)
    return {row[0]: row[1] for row in rows}


@pytest.mark.parametrize("state", ["deprecated", "archived", "quarantined", "active"])
def test_what_is_installed_runs_as_the_help_says(index: IndexFolder, state: str) -> None:
    said = rows_of_the_help()[state]
    if state != "active":
        withdraw(index, NEW, state)
    told, error = loaded(NAME)
    assert (error.id == "E_QUARANTINED") == said.startswith("refused"), error
    assert len(told) == ("warning" in said), "once"
    ran = hubcli("run", NAME, "a text", "--offline", "--json")
    assert ran.document["error"]["id"] == error.id
    assert (ran.code == 6) == said.startswith("refused")
    assert ran.err.count("label leak") == ("warning" in said), ran.err


def test_a_yanked_copy_runs_and_says_so(index: IndexFolder) -> None:
    withdraw(index, NEW, "yanked", replacement=OLD)
    told, error = loaded(NAME)
    assert error.id != "E_QUARANTINED"
    (line,) = told
    assert f"{NAME} 1.1.0 was yanked" in line and f"use {OLD} instead" in line
    assert hubcli("run", NEW, "a text", "--offline").err.count("label leak") == 1
    assert loaded(OLD)[0] == []


WAYS = {
    "run": ("a text",),
    "fuse": ("--out", "out"),
    "merge": ("--out", "out"),
    "export": ("--out", "out", "--to", "pt2"),
    "eval": ("--data", "data.jsonl"),
    "convert": ("--out", "out", "--to", "adapterhub"),
}


# A composition has no files to convert.
@pytest.mark.parametrize(
    ("command", "what"),
    [(c, what) for c in WAYS for what in (NAME, "acme/both") if (c, what) != ("convert", "acme/both")],
)
def test_nothing_works_on_a_quarantined_copy(
    index: IndexFolder, command: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data.jsonl").write_text('{"text": "a", "label": "b"}\n')
    index.add("acme/other")
    compose(index, "acme/both", composed(f'average("{NAME}", "acme/other")', {NAME: "^1", "acme/other": "^1"}))
    api.install("acme/both")
    withdraw(index, NEW, "quarantined")
    answer = hubcli(command, what, *WAYS[command], "--offline", "--json")
    assert (answer.code, answer.document["error"]["id"]) == (6, "E_QUARANTINED"), answer.out
    error = answer.document["error"]
    assert f"{NAME} 1.1.0 is quarantined: label leak" in error["message"]
    assert f"take instead: {OLD}" in error["hint"] and not Path("out").exists()
    assert (what == NAME) == ("installed" in error["cause"])


def test_an_older_copy_of_a_quarantined_name_works(index: IndexFolder) -> None:
    withdraw(index, NEW, "quarantined")
    assert loaded(OLD)[1].id != "E_QUARANTINED" and loaded(NEW)[1].id == "E_QUARANTINED"
    api.uninstall(NEW)
    assert loaded(NAME)[1].id != "E_QUARANTINED"


def test_the_snapshot_on_this_machine_decides_without_a_request(
    index: IndexFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> Installed:
        return Workspace(refresh=True).installed_or_install(parse_ref(NEW), Silent())

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    site = tmp_path / "site"
    api.index_build(str(index.folder), out=str(site))
    with serve(site) as server:
        api.uninstall(NAME)
        api.index_remove("acme")
        api.index_add("acme", server.url)
        api.install(NEW)
        withdraw(index, NEW, "quarantined")
        api.index_build(str(index.folder), out=str(site))
        asked = len(server.requests)
        assert api.list()["adapters"][0]["state"] == "active" and api.verify()["ok"], "nobody has told this machine"
        assert found().record.version == "1.1.0"
        assert len(server.requests) == asked
        api.index_update()
        asked = len(server.requests)
        with pytest.raises(YankedError, match="label leak"):
            found()
        assert api.list()["adapters"][0]["state"] == "quarantined"
        assert len(server.requests) == asked


def test_an_index_that_is_gone_stops_nothing_and_is_told(index: IndexFolder, tmp_path: Path) -> None:
    index.folder.rename(tmp_path / "moved")
    assert "nobody knows whether acme/films was withdrawn" in hubcli("run", NAME, "a text", "--offline").err
    (problem,) = api.list()["problems"]
    assert "does not exist" in problem
    api.index_remove("acme")
    assert api.list()["problems"] == [] and {row["state"] for row in api.list()["adapters"]} == {None}


@pytest.mark.parametrize("state", STATES)
def test_every_command_tells(index: IndexFolder, state: str) -> None:
    withdraw(index, NEW, state)
    states = [(row["version"], row["state"], row["reason"]) for row in api.list()["adapters"]]
    assert states == [("1.0.0", "active", None), ("1.1.0", state, "label leak")]
    row = {"name": NAME, "version": "1.1.0", "state": state, "reason": "label leak"}
    row["instead"] = OLD if state in ("yanked", "quarantined") else None  # type: ignore[assignment]
    for command in ("outdated", "upgrade"):
        answer = hubcli(command, "--json")
        assert answer.document["withdrawn"] == [row] and answer.code == 0, answer.err
    informed = hubcli("info", NEW, "--json").document
    assert informed["releases"] == [
        {"version": "1.1.0", "state": state, "reason": "label leak"},
        {"version": "1.0.0", "state": "active", "reason": None},
    ]
    assert (informed["version"], informed["release"]["status"]) == ("1.1.0", "active" if state == "yanked" else state)
    (checked,) = (found for found in api.verify()["adapters"] if found["version"] == "1.1.0")
    assert (checked["status"], checked["state"]) == ("ok", state)
    mark = f"{state}: label leak"
    for command in ("list", "info", "outdated", "upgrade", "verify"):
        answer = hubcli(command, *([NAME] if command == "info" else []))
        assert mark in answer.out + answer.err and "up to date" not in answer.out, answer
    doctor: Answer = hubcli("doctor", "--json")
    named = [check["detail"] for check in doctor.document["checks"] if check["name"] == "installed"]
    assert named == ([f"{NAME} 1.1.0 is quarantined: label leak"] if state == "quarantined" else [])


def test_nothing_is_marked_where_nothing_was_withdrawn(index: IndexFolder) -> None:
    assert "STATE" not in hubcli("list").out and hubcli("upgrade").out == "everything is up to date\n"
    assert hubcli("outdated").out == "everything is up to date\n"


def test_yanked_and_quarantined_are_told_apart(index: IndexFolder, tmp_path: Path) -> None:
    withdraw(index, OLD, "quarantined")
    withdraw(index, NEW, "yanked")
    with pytest.raises(YankedError) as caught:
        api.resolve(NAME)
    assert caught.value.message == (
        f"every version of {NAME} is withdrawn: 1.1.0 is yanked: label leak; 1.0.0 is quarantined: label leak"
    )
    assert "though it is yanked" in (caught.value.hint or "")
    for command in ("install", "outdated", "upgrade", "mirror"):
        answer = hubcli(command, *{"install": [NAME], "mirror": [str(tmp_path / "mirror"), NAME]}.get(command, []))
        assert "is yanked; 1.1.0" not in answer.out + answer.err, answer
        assert "1.0.0 is quarantined: label leak" in answer.out + answer.err, answer
    api.uninstall(NEW)
    informed = api.info(NAME)
    assert (informed["version"], informed["release"]["status"]) == ("1.0.0", "quarantined")
    assert any("1.0.0 is quarantined" in line for line in informed["warnings"])
