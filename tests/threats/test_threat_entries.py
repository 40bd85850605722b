"""Entries that lie: names, paths and documents of an index (rows 1, 3 to 6, 8 to 12), whole indexes (31, 35, 54)."""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
import shutil
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hubcli import api
from hubcli.index.sources import Digest
from tests.registry.checkout import checkout, commit
from tests.registry.entrydocs import entry, release, write, yank
from tests.registry.test_strict_json import HOSTILE as HOSTILE_JSON
from tests.support.adapters import IndexFolder, lora_files
from tests.threats.doors import Door, Outcome, footprint, is_plain, threat

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


NEAR = {
    "one letter": "acme/legal-sumarize",
    "dash and underscore": "acme/legal_summarize",
    "swap": "acme/legal-sumamrize",
}


@threat(5, NEAR)
def test_a_name_that_is_taken_for_another(door: Door, case: str, index: IndexFolder) -> None:
    index.add("acme/legal-summarize")
    index.add(case)
    outcome = door("index check", str(index.folder))
    (fault,) = outcome.document["faults"]
    assert fault["id"] == "E_NAME_COLLISION" and not outcome.document["ok"]
    assert case in fault["found"] and "acme/legal-summarize" in fault["found"]


PROPOSED_NAMES = {
    # what is proposed, whether a check without --against passes it, and what both names are told as
    "one edit": ("legal/sumarize", False, ("legal/sumarize", "legal/summarize")),
    "two edits": ("legal/sumarise", True, ("legal/sumarise", "legal/summarize")),
    "a group": ("lega1/contracts", False, ("lega1/", "legal/")),
}


@threat(5, PROPOSED_NAMES)
def test_a_near_name_in_a_proposal(door: Door, case: tuple[str, bool, tuple[str, str]], tmp_path: Path) -> None:
    name, passes, told = case
    folder = checkout(tmp_path / "repo", entry("legal/summarize"))
    write(folder, entry(name))
    assert door("index check", str(folder)).document["ok"] == passes
    (fault,) = door("index check", str(folder), against="main").document["faults"]
    assert (fault["id"], fault["found"]) == ("E_NAME_COLLISION", " beside ".join(told))


NEAR = {"one letter": "legal/summarise", "dash": "legal/summar-ize", "swap": "legal/sumamrize"}


@threat(5, NEAR)
def test_an_install_of_a_near_name(door: Door, case: str, index: IndexFolder) -> None:
    """Who installs the younger name is told of the older one, once, and not the other way round."""
    index.add("legal/summarize", published="2024-01-01T00:00:00Z")
    index.add(case, published="2025-01-01T00:00:00Z")
    index.add("legal/translate", published="2023-01-01T00:00:00Z")
    told = f"{case} is easily taken for legal/summarize, which index 'acme' had before it"
    assert "easily taken for" not in door.install("legal/summarize").text
    outcome = door.install(case)
    assert outcome.code == 0 and told in outcome.text
    assert "easily taken for" not in door.install(case).text


@threat(10, {"nested": "(a+)+$", "many": "(" + "a|" * 200 + "a)*$", "greedy": ".*" * 150 + "x"})
def test_a_pattern_that_takes_for_ever(door: Door, case: str, index: IndexFolder) -> None:
    index.add("acme/demo", files=lora_files(target_modules=case))
    start = time.process_time()
    outcome = door.install("acme/demo")
    assert outcome.code in (0, 4, 6) and time.process_time() - start < 1


EDITS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "hash": (lambda release: release["files"][0].update(sha256="0" * 64), "E_IMMUTABLE"),
    "licence": (lambda release: release.update(license="mit"), "E_IMMUTABLE"),
    "version": (lambda release: release.update(version="1.0.0+x"), "E_IMMUTABLE"),
    "yanked": (lambda release: release.update(yanked={"reason": "leak", "date": "2026-02-02T00:00:00Z"}), ""),
}


@threat(11, EDITS)
def test_a_release_that_was_edited_after_publication(
    door: Door, case: tuple[Callable[[Any], Any], str], index: IndexFolder, tmp_path: Path
) -> None:
    edit, id = case
    document = index.add("acme/demo")
    shutil.copytree(index.folder, tmp_path / "parent")
    edit(document["releases"][0])
    index.write("acme/demo", document)
    faults = door("index check", str(index.folder), against=str(tmp_path / "parent")).document["faults"]
    named = [fault["field"] for fault in faults if fault["id"] == "E_IMMUTABLE"]
    assert bool(named) == bool(id) and all(field.startswith("releases") for field in named), faults


PROPOSED: dict[str, tuple[Callable[[Any], Any], str, str]] = {
    "an owner yanks": (lambda document: document["releases"][0].update(yanked=yank()), "alice", ""),
    "a stranger yanks": (lambda document: document["releases"][0].update(yanked=yank()), "mallory", "E_OWNER"),
    "an owner edits": (lambda document: document["releases"][0].update(license="mit"), "alice", "E_IMMUTABLE"),
    "a maintainer edits": (lambda document: document["releases"][0].update(license="mit"), "keeper", "E_IMMUTABLE"),
    "an owner takes it away": (lambda document: document["releases"].pop(), "alice", "E_IMMUTABLE"),
}


@threat(11, PROPOSED)
def test_a_proposal_against_a_revision(door: Door, case: tuple[Callable[[Any], Any], str, str], tmp_path: Path) -> None:
    edit, by, id = case
    document = entry("acme/demo", release(hub={"repo": "acme/demo", "commit": "c" * 40}), release("2.0.0"))
    folder = checkout(tmp_path / "repo", document, under="index")
    (folder / "_owners.json").write_text('{"v": 1, "maintainers": ["keeper"], "groups": {"acme": ["acme", "alice"]}}')
    published = commit(folder, "owners")
    edit(document)
    write(folder, document)
    commit(folder)
    outcome = door("index check", str(folder), against=published, by=by)
    assert [fault["id"] for fault in outcome.document["faults"]] == ([id] if id else []), outcome.text
    assert outcome.document["ownership"] == "person" and (door.name == "python" or outcome.code == (4 if id else 0))


@threat(11, ["1.0.0", "1.0.0+x"])
def test_a_version_that_stands_twice(door: Door, case: str, index: IndexFolder, refused: Refused) -> None:
    document = index.add("acme/demo", "1.0.0", "2.0.0")
    document["releases"][1]["version"] = case
    index.write("acme/demo", document)
    refused(door, "E_VERSION", 4, "install", "acme/demo")


@threat(11)
def test_other_files_under_an_installed_version(door: Door, index: IndexFolder) -> None:
    index.add("acme/demo")
    api.install("acme/demo")
    index.add("acme/demo", files=lora_files(fill=0.5))
    outcome = door.install("acme/demo")
    assert (outcome.id, outcome.code) == ("E_IMMUTABLE", 4) and api.verify()["ok"]


def site_of(index: IndexFolder, out: Path) -> Path:
    """The folder as a static site, configured as `far`."""
    api.index_build(index.folder, out)
    api.index_add("far", str(out))
    return out


@threat(31)
def test_entries_of_another_snapshot(door: Door, index: IndexFolder, tmp_path: Path, refused: Refused) -> None:
    index.add("acme/demo", "1.0.0")
    api.index_build(index.folder, tmp_path / "old")
    index.add("acme/demo", "1.0.0", "1.1.0")
    site = site_of(index, tmp_path / "new")
    shutil.copy(tmp_path / "old/entries.jsonl.gz", site)
    refused(door, "E_SNAPSHOT", 4, "install", "far:acme/demo")


@threat(35, ["../../evil", "/etc/evil", "acme/\u00f6l", "acme/../evil"])
def test_a_site_with_hostile_names(door: Door, case: str, index: IndexFolder, tmp_path: Path, refused: Refused) -> None:
    """They are keys of a table, never paths: refused by name, and the others work."""
    document = index.add("acme/demo")
    pairs = sorted([["acme/demo", json.dumps(document)], [case, json.dumps({**document, "name": case})]])
    site = site_of(index, tmp_path / "site")
    packed = gzip.compress(b"".join(json.dumps(pair).encode() + b"\n" for pair in pairs))
    promise = json.loads((site / "index.json").read_text())
    snapshot = Digest()
    for name, text in pairs:
        snapshot.add(name, hashlib.sha256(text.encode()).hexdigest())
    sizes = {
        "size": len(packed),
        "sha256": hashlib.sha256(packed).hexdigest(),
        "unpacked": len(gzip.decompress(packed)),
    }
    promise |= {"count": 2, "entries": sizes, "snapshot": snapshot.hexdigest()}
    (site / "index.json").write_text(json.dumps(promise))
    (site / "entries.jsonl.gz").write_bytes(packed)
    before = footprint(tmp_path)
    assert door("index update", "far").document["indexes"][0]["entries"] == 1
    assert door.install("far:acme/demo").code == 0 and footprint(tmp_path) == before


NEWER: dict[str, tuple[str, str]] = {"index": ("far:acme/demo", "E_SNAPSHOT"), "entry": ("acme/demo", "E_SCHEMA")}


@threat(54, NEWER)
def test_an_index_of_a_newer_hubcli(
    door: Door, case: tuple[str, str], index: IndexFolder, tmp_path: Path, refused: Refused
) -> None:
    ref, id = case
    document = index.add("acme/demo")
    if id == "E_SNAPSHOT":
        site = site_of(index, tmp_path / "site")
        (site / "index.json").write_text('{"format": 9, "other": "words"}')
    index.write("acme/demo", {**document, "v": 9})
    assert "newer hubcli" in refused(door, id, 4, "install", ref).text


@threat(54)
def test_a_store_of_a_newer_hubcli(door: Door, index: IndexFolder, home: Path) -> None:
    index.add("acme/demo")
    (home / "store" / "v9").mkdir(parents=True)
    outcome = door.install("acme/demo")
    assert outcome.code == 1 and "version 9" in outcome.text and "upgrade hubcli" in outcome.text
