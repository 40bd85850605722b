"""Compositions as entries, through the command line: installed, listed, locked, mended and removed like any adapter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.adapters import IndexFolder
from tests.support.cli import hubcli
from tests.support.composed import compose, composed


@pytest.fixture
def mixed(index: IndexFolder) -> IndexFolder:
    """acme/mix over acme/one ^1 (of 1.0.0, 1.1.0) and acme/two; acme/outer over acme/mix and acme/one."""
    compose(index, "acme/mix", composed("average(acme/one, acme/two)", {"acme/one": "^1.0", "acme/two": "^1"}))
    compose(index, "acme/outer", composed("stack(acme/mix, acme/one)", {"acme/mix": "^1", "acme/one": "~1.0"}))
    return index


def rows(document: dict[str, Any], key: str = "installed") -> list[tuple[str, str]]:
    return [(row["name"], row["version"]) for row in document[key]]


def listed() -> list[tuple[str, str, str]]:
    return [(a["name"], a["version"], a["method"]) for a in hubcli("list", "--json").document["adapters"]]


MIX = [("acme/one", "1.1.0"), ("acme/two", "1.0.0"), ("acme/mix", "1.0.0")]


def test_a_composition_installs_with_its_parts(mixed: IndexFolder) -> None:
    assert "would install acme/mix 1.0.0 (composition" in hubcli("install", "acme/mix", "--dry-run").out
    assert listed() == []
    assert rows(hubcli("install", "acme/mix", "--json").document) == MIX
    assert [row["changed"] for row in hubcli("install", "acme/mix", "--json").document["installed"]] == [False] * 3
    assert listed() == [
        ("acme/mix", "1.0.0", "composition"),
        ("acme/one", "1.1.0", "lora"),
        ("acme/two", "1.0.0", "lora"),
    ]
    assert hubcli("verify", "--json").document["ok"]
    assert hubcli("cache", "prune", "--json").document["bytes"] == 0


def test_info_and_search_say_what_it_is(mixed: IndexFolder) -> None:
    told = hubcli("info", "acme/mix").out
    assert "average(acme/one, acme/two)" in told and "acme/one ^1.0, acme/two ^1" in told
    assert hubcli("info", "acme/mix", "--json").document["kind"] == "composition"
    hits = hubcli("search", "mix composition", "--json").document["hits"]
    assert [(hit["name"], hit["method"]) for hit in hits if hit["name"] == "acme/mix"] == [("acme/mix", "composition")]
    hits = hubcli("search", "", "--method", "composition", "--json").document["hits"]
    assert {hit["name"] for hit in hits if hit["name"].startswith("acme/")} == {"acme/mix", "acme/outer"}


def test_all_ranges_on_one_name_meet(mixed: IndexFolder) -> None:
    """acme/outer wants ~1.0 of acme/one, its part acme/mix ^1.0: both get 1.0.0."""
    assert rows(hubcli("install", "acme/outer", "--json").document) == [
        ("acme/one", "1.0.0"),
        ("acme/two", "1.0.0"),
        ("acme/mix", "1.0.0"),
        ("acme/outer", "1.0.0"),
    ]


def test_a_composition_keeps_its_own_parts_in_another(mixed: IndexFolder) -> None:
    hubcli("install", "acme/mix")
    document = hubcli("install", "acme/outer", "--json").document
    assert [row["name"] for row in document["installed"] if row["changed"]] == ["acme/one", "acme/outer"]
    assert hubcli("verify", "--json").document["ok"]


def test_what_is_needed_is_not_taken_away(mixed: IndexFolder) -> None:
    hubcli("install", "acme/mix")
    refused = hubcli("uninstall", "acme/one", "--json")
    assert refused.code == 6 and "acme/mix 1.0.0" in refused.document["error"]["message"]
    removed = hubcli("uninstall", "acme/one", "acme/mix", "--json").document
    assert rows(removed, "removed") == [("acme/mix", "1.0.0"), ("acme/one", "1.1.0")]
    assert hubcli("uninstall", "acme/two").code == 0


def test_a_lost_part_is_missing_and_comes_back(mixed: IndexFolder, home: Path) -> None:
    hubcli("install", "acme/mix")
    shutil.rmtree(next(home.rglob("acme/two")))
    found = hubcli("verify", "acme/mix", "--json")
    assert found.code == 4 and found.document["adapters"][0]["status"] == "missing"
    assert "acme/two 1.0.0" in found.document["adapters"][0]["problems"][0]
    mended = hubcli("verify", "acme/mix", "--repair", "--json").document["adapters"][0]
    assert mended["status"] == "ok" and mended["repaired"]
    assert len(listed()) == 3
    (next(home.rglob("acme/mix/1.0.0")) / "extra.txt").write_text("x")
    assert hubcli("verify", "acme/mix", "--repair").code == 0 and hubcli("verify").code == 0


def test_an_upgrade_takes_newer_parts(mixed: IndexFolder) -> None:
    hubcli("install", "acme/mix")
    mixed.add("acme/one", "1.0.0", "1.1.0", "1.2.0")
    assert [row["name"] for row in hubcli("outdated", "--json").document["outdated"]] == ["acme/one"]
    assert rows(hubcli("upgrade", "acme/mix", "--json").document) == [
        ("acme/one", "1.2.0"),
        ("acme/two", "1.0.0"),
        ("acme/mix", "1.0.0"),
    ]
    assert hubcli("upgrade", "--json").document == {"installed": [], "failed": [], "withdrawn": []}
    assert hubcli("uninstall", "acme/one@1.1.0").code == 0 and hubcli("uninstall", "acme/one@1.2.0").code == 6


def test_nothing_is_recorded_before_all_parts_are_there(mixed: IndexFolder, tmp_path: Path) -> None:
    """The weights of acme/two are others than promised: acme/one stays, the composition never appears."""
    for spec in json.loads((mixed.folder / "acme/two.json").read_text())["releases"][0]["files"]:
        if spec["role"] == "weights":
            (mixed.folder / "_files" / spec["sha256"]).write_bytes(b"other")
    (tmp_path / "adapters.toml").write_text('[adapters]\n"acme/mix" = "^1"\n')
    hubcli("lock", cwd=tmp_path)
    synced = hubcli("sync", "--json", cwd=tmp_path).document
    assert [f["ref"] for f in synced["failed"]] == ["acme/two", "acme/mix"]
    assert "requires acme/two 1.0.0" in synced["failed"][1]["error"]["message"]
    failed = hubcli("install", "acme/mix", "--json")
    assert failed.code != 0 and [f["ref"] for f in failed.document["failed"]] == ["acme/mix"]
    assert listed() == [("acme/one", "1.1.0", "lora")]


@pytest.mark.parametrize(
    ("entries", "id", "says"),
    [
        ({"acme/a": ("stack(acme/b)", {"acme/b": "^1"}), "acme/b": ("stack(acme/a)", {"acme/a": "^1"})}, "E_CYCLE", "acme/a → acme/b → acme/a"),
        ({"acme/a": ("stack(acme/none)", {"acme/none": "^1"})}, "E_NOT_FOUND", "no adapter is called 'acme/none'"),
        ({"acme/a": ("stack(acme/one)", {"acme/one": "^7"})}, "E_CONFLICT", "acme/a 1.0.0: ^7"),
        ({"acme/a": ("stack(acme/mix, acme/one)", {"acme/mix": "^1", "acme/one": "^2.0.0-rc.1"})}, "E_CONFLICT", "acme/mix 1.0.0: ^1.0"),
        ({"acme/a": ("stack(acme/one, acme/far)", {"acme/one": "^1", "acme/far": "^1"})}, "E_BASE_MISMATCH", "acme/other"),
    ],
)  # fmt: skip
def test_what_no_release_can_satisfy(
    entries: dict[str, tuple[str, dict[str, str]]], id: str, says: str, mixed: IndexFolder
) -> None:
    mixed.add("acme/far", base={"id": "acme/other"})
    for name, (expression, requires) in entries.items():
        compose(mixed, name, composed(expression, requires))
    failed = hubcli("install", "acme/a", "--json").document["failed"][0]["error"]
    assert (failed["id"], says in failed["message"]) == (id, True), failed
    assert listed() == []


def test_a_project_locks_and_syncs_it(mixed: IndexFolder, tmp_path: Path, home: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "adapters.toml").write_text('[adapters]\n"acme/outer" = "^1"\n')
    locked = hubcli("lock", "--json", cwd=project).document
    assert rows(locked, "adapters") == [
        ("acme/mix", "1.0.0"), ("acme/one", "1.0.0"), ("acme/outer", "1.0.0"), ("acme/two", "1.0.0"),
    ]  # fmt: skip
    text = (project / "adapters.lock").read_text()
    assert 'required-by = [\n    "acme/mix",\n    "acme/outer",\n]' in text
    assert hubcli("lock", "--check", cwd=project).code == 0
    assert hubcli("lock", "--json", cwd=project).document["changed"] is False
    mixed.add("acme/one", "1.0.0", "1.0.1", "1.1.0")
    assert hubcli("lock", "--json", cwd=project).document["changed"] is False
    synced = hubcli("sync", "--frozen", "--json", cwd=project).document
    assert synced["failed"] == [] and ("acme/one", "1.0.0") in rows(synced) and len(listed()) == 4
    assert hubcli("install", "acme/outer", "--locked", "--json", cwd=project).code == 0
    assert ("acme/one", "1.0.1") in rows(hubcli("lock", "--upgrade", "--json", cwd=project).document, "adapters")


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ('name = "acme/one"', 'name = "acme/ono"', "acme/one is required by a composition and not locked"),
        ('version = "1.0.0"\nindex = "acme"\nrequested = "acme/one"', 'version = "2.0.0"\nindex = "acme"\nrequested = "acme/one"', "acme/outer requires acme/one ~1.0, 2.0.0 is locked"),
    ],
)  # fmt: skip
def test_a_lock_that_does_not_hold_together_is_stale(
    before: str, after: str, reason: str, mixed: IndexFolder, tmp_path: Path
) -> None:
    (tmp_path / "adapters.toml").write_text('[adapters]\n"acme/outer" = "^1"\n')
    hubcli("lock", cwd=tmp_path)
    text = (tmp_path / "adapters.lock").read_text()
    assert before in text
    (tmp_path / "adapters.lock").write_text(text.replace(before, after))
    checked = hubcli("lock", "--check", "--json", cwd=tmp_path)
    assert checked.code == 5 and reason in checked.document["error"]["message"]


def test_a_project_and_a_composition_that_disagree(mixed: IndexFolder, tmp_path: Path) -> None:
    (tmp_path / "adapters.toml").write_text('[adapters]\n"acme/outer" = "^1"\n"acme/one" = "1.1.0"\n')
    error = hubcli("lock", "--json", cwd=tmp_path).document["error"]
    assert error["id"] == "E_CONFLICT" and "1.1.0" in error["message"] and "acme/outer 1.0.0: ~1.0" in error["message"]
    (tmp_path / "adapters.toml").write_text('[adapters]\n"acme/mix" = "^1"\n"acme/one" = "1.0.0"\n')
    assert ("acme/one", "1.0.0") in rows(hubcli("lock", "--json", cwd=tmp_path).document, "adapters")


def test_a_static_site_serves_it(mixed: IndexFolder, tmp_path: Path) -> None:
    assert hubcli("index", "build", str(mixed.folder), "--out", str(tmp_path / "site")).code == 0
    hubcli("index", "remove", "acme")
    hubcli("index", "add", "site", str(tmp_path / "site"))
    assert rows(hubcli("install", "acme/mix", "--json").document) == MIX


COMPOSE = (
    "index",
    "compose",
    "Average(acme/one@~1.0, acme/two, weights=[0.7, .3])",
    "--name",
    "acme/new",
    "--version",
    "1.0.0",
)


def test_an_expression_is_saved_as_an_entry(mixed: IndexFolder) -> None:
    texts = ("--description", "One and two.", "--author", "Acme", "--out", str(mixed.folder))
    dry = hubcli(*COMPOSE, *texts, "--dry-run", "--json").document
    assert not (mixed.folder / "acme/new.json").exists()
    assert hubcli(*COMPOSE, *texts, "--json").document == dry
    assert dry["requires"] == {"acme/one": "~1.0", "acme/two": "^1.0.0"} and dry["base"] == "acme/tiny-bert"
    assert dry["expression"] == "average(acme/one, acme/two, weights=[0.7, 0.3])"
    assert hubcli("index", "check", str(mixed.folder)).code == 0
    assert ("acme/one", "1.0.0") in rows(hubcli("install", "acme/new", "--json").document)
    again = hubcli(*COMPOSE, "--out", str(mixed.folder), "--json")
    assert again.document["error"]["id"] == "E_IMMUTABLE"
    assert hubcli(*COMPOSE[:-1], "1.1.0", "--out", str(mixed.folder)).code == 0
    assert hubcli("info", "acme/new", "--json").document["versions"] == ["1.1.0", "1.0.0"]


@pytest.mark.parametrize(
    ("expr", "id"),
    [
        ("stack(hf:org/repo)", "E_USAGE"),
        ("stack(./here, acme/one)", "E_USAGE"),
        ("stack(acme:acme/one)", "E_USAGE"),
        ("stack(acme/one@^1, acme/one@1.0.0)", "E_USAGE"),
        ("stack(acme/one", "E_EXPRESSION"),
        ("stack(acme/nobody)", "E_NOT_FOUND"),
        ("stack(acme/outer)", "E_CYCLE"),
    ],
)
def test_what_can_be_no_entry_is_not_saved(expr: str, id: str, mixed: IndexFolder) -> None:
    before = (mixed.folder / "acme/mix.json").read_bytes()
    arguments = ("index", "compose", expr, "--name", "acme/mix", "--version", "3.0.0", "--out", str(mixed.folder))
    assert hubcli(*arguments, "--json").document["error"]["id"] == id
    assert (mixed.folder / "acme/mix.json").read_bytes() == before
