"""index add, update and remove: what a person is told of an index that is none, that is away, or whose token is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hubcli import api
from hubcli.errors import HubcliError
from hubcli.index.build import build_site
from tests.registry.entrydocs import entry, write
from tests.support.adapters import IndexFolder, lora_files
from tests.support.cli import hubcli
from tests.support.static_server import serve

UNSET = "the variable NOPE, which is to hold the token of index 'acme', is not set"


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    build_site(write(tmp_path / "index", entry("acme/legal")), tmp_path / "site")
    return tmp_path / "site"


@pytest.mark.parametrize("options", [[], ["--unseen"], ["--dry-run"], ["--offline"]])
def test_a_variable_that_is_not_set_is_told_when_it_is_bound(
    options: list[str], site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(site) as server:
        command = ["index", "add", "acme", server.url, "--token-env", "NOPE", *options]
        answer = hubcli(*command)
        assert answer.code == 0 and UNSET in answer.err
        monkeypatch.setenv("NOPE", "secret")
        assert UNSET not in hubcli(*command).err


def test_a_site_that_asks_for_a_token_whose_variable_is_not_set(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(site, token="secret") as server:
        add = ["index", "add", "acme", server.url, "--token-env", "NOPE"]
        refused = hubcli(*add)
        assert refused.code == 7 and UNSET in refused.err and "--token-env VAR" not in refused.err
        assert hubcli(*add, "--unseen").code == 0
        for command in (["index", "update", "acme"], ["info", "acme/legal"]):
            refused = hubcli(*command)
            assert refused.code == 7 and UNSET in refused.err and "--token-env VAR" not in refused.err
        monkeypatch.setenv("NOPE", "wrong")
        refused = hubcli("index", "update", "acme")
        assert refused.code == 7 and UNSET not in refused.err and "not accepted" in refused.err
        monkeypatch.setenv("NOPE", "secret")
        assert hubcli("index", "update", "acme").code == 0


def test_one_that_is_away_stops_no_other(site: Path, tmp_path: Path) -> None:
    index = IndexFolder(tmp_path / "team")
    index.add("team/x")
    for name in ("gone", "away"):
        shutil.copytree(index.folder, tmp_path / name)
        api.index_add(name, str(tmp_path / name))
        shutil.rmtree(tmp_path / name)
    with serve(site) as server:
        api.index_add("team", server.url)
        answer = hubcli("index", "update")
        fetched = server.paths().count("/index.json")
    assert answer.code == 3 and fetched == 2
    assert "error: index 'gone' is not updated: " in answer.err and answer.err.count("hubcli index remove gone") == 1
    assert "warning: index 'away' is not updated: " in answer.err
    assert {row["name"]: row["entries"] for row in api.index_list()["indexes"]}["team"] == 1
    with pytest.raises(HubcliError, match="index 'away' is not updated"):
        api.index_update("away", "team")


@pytest.mark.parametrize("at", ["", "checkpoint-10"])
def test_a_folder_of_something_else_is_not_added(at: str, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    (folder / at).mkdir(parents=True)
    for name, data in lora_files().items():
        (folder / at / name).write_bytes(data)
    refused = hubcli("index", "add", "q", str(folder))
    assert refused.code == 2 and "holds no entry" in refused.err and "--unseen" in refused.err
    assert [row["name"] for row in api.index_list()["indexes"]] == ["bundled"]
    assert hubcli("index", "add", "q", str(folder), "--unseen").code == 0


def test_a_folder_that_may_become_an_index_is_added(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("soon")
    answer = hubcli("index", "add", "q", str(tmp_path))
    assert answer.code == 0 and "holds no entry" in answer.err
    (tmp_path / "_index.json").write_text("{}")
    assert not hubcli("index", "add", "q", str(tmp_path)).err


def test_what_can_be_removed_is_named() -> None:
    assert "(there are: bundled)" in hubcli("index", "remove", "nope").err
    hubcli("index", "add", "other", "http://127.0.0.1:9/", "--unseen")
    assert "(there are: other, bundled)" in hubcli("index", "remove", "nope").err
    hubcli("index", "remove", "bundled")
    assert "(there are: other)" in hubcli("index", "remove", "nope").err
