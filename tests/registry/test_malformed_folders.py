"""What a folder of others may hold where an index folder has entries and `_index.json`: a fault each, and no traceback."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hubcli import api
from hubcli.errors import EntryError
from tests.registry.checkout import checkout
from tests.registry.entrydocs import entry, write
from tests.support.cli import hubcli

SIMILAR = [
    None,
    {},
    "acme/a",
    7,
    [1],
    [[{}]],
    [["acme/a"]],
    [["acme/a", "acme/b", "acme/c"]],
    [["acme/a", None]],
    [[[], []]],
]


@pytest.mark.parametrize("similar", SIMILAR)
def test_pairs_that_are_none(similar: object, tmp_path: Path) -> None:
    index = write(tmp_path / "index", entry("acme/legal"), entry("acme/sumarize"))
    (index / "_index.json").write_text(json.dumps({"similar": similar}))
    for command in (("check",), ("build", "--out", str(tmp_path / "site")), ("check", "--against", str(index))):
        answer = hubcli("index", command[0], str(index), *command[1:])
        assert answer.code == 4 and "_index.json: similar: expected pairs of names" in answer.err
    with pytest.raises(EntryError, match="similar: expected pairs"):
        api.index_add("acme", str(index))


@pytest.mark.parametrize("content", ["[]", "{", "7", "folder"])
def test_an_index_json_that_is_none(content: str, tmp_path: Path) -> None:
    index = write(tmp_path / "index", entry("acme/legal"))
    file = index / "_index.json"
    file.mkdir() if content == "folder" else file.write_text(content)
    assert hubcli("index", "add", "acme", str(index)).code == 4
    assert hubcli("index", "build", str(index), "--out", str(tmp_path / "site")).code == 4
    assert hubcli("index", "check", str(index)).code == 4


NO_FILES: dict[str, Callable[[Path], object]] = {
    "a folder": lambda file: file.mkdir(),
    "a link that leads nowhere": lambda file: file.symlink_to("nowhere"),
    "a link to itself": lambda file: file.symlink_to(file.name),
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_an_entry_that_is_no_file(kind: str, tmp_path: Path) -> None:
    """It is a faulty entry: named, left out, and asked of no other index."""
    index = write(tmp_path / "index", entry("acme/legal"))
    (index / "news").mkdir()
    NO_FILES[kind](index / "news" / "d.json")
    api.index_add("acme", str(index))
    for _ in range(2):
        assert api.resolve("acme/legal").version == "1.0.0"
    warned: list[str] = []
    assert api.index_update("acme", warn=warned.append)["indexes"][0]["entries"] == 1
    assert len(warned) == 1 and "news/d" in warned[0]
    assert hubcli("install", "acme:news/d").code == 4
    assert [fault["file"] for fault in api.index_check(index)["faults"]] == ["news/d.json"]
    answer = hubcli("index", "build", str(index), "--out", str(tmp_path / "site"))
    assert answer.code == 4 and "news/d.json" in answer.err


@pytest.mark.parametrize("version", [[], {}, [["1.0.0"]], None, 1])
@pytest.mark.parametrize("side", ["before", "now"])
def test_a_version_that_is_no_text(version: object, side: str, tmp_path: Path) -> None:
    document = entry("acme/legal")
    broken = {**document, "releases": [{**document["releases"][0], "version": version}]}
    index = checkout(tmp_path / "index", broken if side == "before" else document)
    write(index, document if side == "before" else broken)
    answer = hubcli("index", "check", str(index), "--against", "main")
    assert answer.code == 4 and "E_IMMUTABLE" in answer.out
