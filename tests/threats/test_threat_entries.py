"""Entries that lie: names, paths and documents of an index (rows 1, 3, 4, 6, 8, 9, 12)."""

from __future__ import annotations

import copy
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from tests.registry.test_strict_json import HOSTILE as HOSTILE_JSON
from tests.support.adapters import IndexFolder
from tests.threats.doors import Door, Outcome, is_plain, threat

Refused = Callable[..., Outcome]
README = {"path": "README.md", "size": 1, "sha256": "0" * 64, "role": "card"}


PATHS = [
    "../../x", "/etc/x", "a/../../x", "C:\\x", "\\\\srv\\x", "a\\..\\b", "~", "", ".", "x.", "x ", "a\0b", "x" * 300, "~/x.json",
    "nul.json", ".hubcli.json",
]  # fmt: skip


@threat(1, PATHS)
def test_a_path_that_leaves_the_folder(door: Door, case: str, index: IndexFolder, refused: Refused) -> None:
    document = index.add("acme/demo")
    document["releases"][0]["files"].append({**README, "path": case})
    index.write("acme/demo", document)
    id = "E_JSON_TEXT" if "\0" in case else "E_PATH_UNSAFE"
    outcome = refused(door, id, 4, "install", "acme/demo")
    assert is_plain(outcome.text)


@threat(3, ["acme/con", "nul/demo", "acme/aux.model", "acme/com1"])
def test_a_name_that_windows_reserves(door: Door, case: str, index: IndexFolder, refused: Refused) -> None:
    index.add("acme/fine")
    index.write(case, {**index.add("acme/demo"), "name": case})
    (index.folder / "acme/demo.json").unlink()
    refused(door, "E_NAME_RESERVED", 4, "install", case)
    checked = door("index check", str(index.folder)).document
    assert [fault["id"] for fault in checked["faults"]] == ["E_NAME_RESERVED"]
    assert door.install("acme/fine").code == 0


LOOKALIKES = {
    "Cyrillic": "\u0430cme/demo",
    "full width": "\uff41cme/demo",
    "ligature": "acme/\ufb01ne",
    "zero width": "ac\u200bme/demo",
    "right to left": "acme/\u202edemo",
}


@threat(4, LOOKALIKES)
def test_a_name_that_looks_like_another(door: Door, case: str, index: IndexFolder, refused: Refused) -> None:
    outcome = refused(door, "E_NAME_CHARSET", 4, "install", case)
    assert ascii(case)[1:-1] in outcome.text and is_plain(outcome.text)
    index.write(case, {**index.add("acme/demo"), "name": case})
    faults = door("index check", str(index.folder)).document["faults"]
    assert "E_NAME_CHARSET" in {fault["id"] for fault in faults}
    assert all(fault["file"].isascii() and fault["found"].isascii() for fault in faults)


TEXTS: tuple[tuple[Any, ...], ...] = (
    ("description",),
    ("authors", 0, "name"),
    ("releases", 0, "license"),
    ("releases", 0, "version"),
    ("releases", 0, "task"),
    ("releases", 0, "base", "id"),
    ("releases", 0, "base", "architecture"),
    ("releases", 0, "files", 0, "sha256"),
    ("releases", 0, "published"),
)


@threat(6, {"newline": "\n", "return": "\r", "escape": "\x1b[31m", "override": "\u202e"})
def test_a_control_character_in_any_text(door: Door, case: str, index: IndexFolder, refused: Refused) -> None:
    good = index.add("acme/demo")
    for path in TEXTS:
        document = copy.deepcopy(good)
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] += case
        index.write("acme/demo", document)
        outcome = refused(door, "E_SCHEMA" if case in "\n\r" else "E_JSON_TEXT", 4, "install", "acme/demo")
        assert is_plain(outcome.text), path


def hostile_entry(door: Door, body: bytes, id: str, index: IndexFolder, refused: Refused) -> None:
    index.add("acme/fine")
    (index.folder / "acme/demo.json").write_bytes(body)
    assert door.install("acme/fine", dry_run=True).code == 0, "one bad entry does not hide the others"
    start = time.process_time()
    refused(door, id, 4, "install", "acme/demo")
    assert time.process_time() - start < 1


@threat(8, {name: case for name, case in HOSTILE_JSON.items() if "duplicate" in name})
def test_a_key_that_stands_twice(door: Door, case: tuple[bytes, str], index: IndexFolder, refused: Refused) -> None:
    hostile_entry(door, *case, index, refused)


@threat(9, {name: case for name, case in HOSTILE_JSON.items() if "duplicate" not in name and name != "too big"})
def test_json_beyond_the_limits(door: Door, case: tuple[bytes, str], index: IndexFolder, refused: Refused) -> None:
    too_long = len(case[0]) > 256 * 1024
    hostile_entry(door, case[0], "E_JSON_SIZE" if too_long else case[1], index, refused)


@threat(9)
def test_an_entry_of_one_gigabyte(door: Door, index: IndexFolder) -> None:
    index.add("acme/fine")
    with (index.folder / "acme/demo.json").open("wb") as file:
        file.truncate(1 << 30)
    tracemalloc.start()
    outcome = door.install("acme/demo")
    assert (outcome.id, outcome.code) == ("E_JSON_SIZE", 4)
    assert tracemalloc.get_traced_memory()[1] < 64e6
    tracemalloc.stop()


@threat(12, ["acme/other", "evil/demo"])
def test_an_entry_under_another_name(door: Door, case: str, index: IndexFolder, refused: Refused) -> None:
    index.write(case, index.add("acme/demo"))
    refused(door, "E_NAME_MISMATCH", 4, "install", case)
