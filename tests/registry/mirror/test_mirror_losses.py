"""mirror where a file can't be had, or went bad: nothing that is held is lost, and no later run is stopped by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hubcli import api
from hubcli.errors import EntryError
from tests.registry.entrydocs import yank
from tests.registry.mirror.mirrors import change, listed, tree
from tests.support.adapters import IndexFolder, lora_files
from tests.support.cli import hubcli


@pytest.fixture
def index(tmp_path: Path) -> IndexFolder:
    """acme/one and acme/two, with weights of their own."""
    folder = IndexFolder(tmp_path / "origin")
    folder.add("acme/one", files=lora_files(fill=5.0))
    folder.add("acme/two")
    api.index_remove("bundled")
    api.index_add("acme", str(folder.folder))
    return folder


def weights(folder: Path, name: str) -> str:
    """The hash of the weights of an entry's newest release."""
    document = json.loads((folder / f"{name}.json").read_bytes())
    return str(next(f["sha256"] for f in document["releases"][-1]["files"] if f["role"] == "weights"))


def rot(there: Path, sha256: str) -> None:
    (there / "_files" / sha256).chmod(0o644)
    (there / "_files" / sha256).write_bytes(b"rot")


def refs(report: dict[str, Any]) -> list[str]:
    return [row["ref"] for row in report["failed"]]


@pytest.mark.parametrize("which", ["acme/two", "--all"])
def test_prune_removes_nothing_where_a_file_can_not_be_had(which: str, index: IndexFolder, there: Path) -> None:
    api.mirror(there, all=True)
    before = tree(there)
    index.add("acme/two", "1.0.0", "1.1.0")
    (index.folder / "_files" / weights(index.folder, "acme/two")).unlink()
    answer = hubcli("mirror", str(there), which, "--prune", "--json")
    assert refs(answer.document) == ["acme/two@1.1.0"] and answer.code not in (0, 1)
    assert answer.document["removed"] == [] and listed(there) == {"acme/one": ["1.0.0"], "acme/two": ["1.0.0"]}
    assert {path: before[path] for path in before if "_files" in path}.items() <= tree(there).items()
    assert any("nothing is removed" in note for note in answer.document["notes"])
    index.add("acme/two", "1.0.0", "1.1.0")
    assert api.mirror(there, "acme/two", prune=True)["failed"] == [] and listed(there) == {"acme/two": ["1.1.0"]}


def test_a_file_that_went_bad_and_can_not_be_had_costs_no_entry(index: IndexFolder, there: Path) -> None:
    change(index, "acme/two", "1.0.0", yanked=yank("wrong labels"))
    api.mirror(there, all=True)
    before, lost = tree(there), weights(index.folder, "acme/two")
    rot(there, lost)
    (index.folder / "_files" / lost).rename(index.folder / "aside")
    for _ in range(2):
        report = api.mirror(there, "acme/one")
        assert refs(report) == ["acme/two@1.0.0"] and report["exit_code"] and report["removed"] == []
        assert report["files"] == len(list((there / "_files").iterdir()))
        assert listed(there) == {"acme/one": ["1.0.0"], "acme/two": ["1.0.0"]}
        assert (there / "acme/two.json").read_bytes() == (index.folder / "acme/two.json").read_bytes()
        faults = api.index_check(there)["faults"]
        assert [fault["id"] for fault in faults] == ["E_NOT_FOUND"] and lost in faults[0]["expected"]
    (index.folder / "aside").rename(index.folder / "_files" / lost)
    assert api.mirror(there, "acme/one")["failed"] == [] and tree(there) == before


def test_a_dry_run_leaves_a_bad_file(index: IndexFolder, there: Path) -> None:
    api.mirror(there, all=True)
    rot(there, weights(index.folder, "acme/two"))
    before = tree(there)
    api.mirror(there, "acme/one", dry_run=True)
    assert tree(there) == before


def test_a_bad_file_that_nothing_lists_is_in_nobodys_way(index: IndexFolder, there: Path) -> None:
    api.mirror(there, "acme/two")
    before = tree(there)
    (there / "_files" / ("ab" * 32)).write_bytes(b"rot")
    report = api.mirror(there, "acme/two")
    assert report["removed"] == [f"_files/{'ab' * 32}"] and tree(there) == before


def test_what_stops_the_switch_is_named_and_leaves_the_entries(index: IndexFolder, there: Path) -> None:
    api.mirror(there, all=True)
    before = tree(there)
    (there / "_files" / "notes.txt").write_text("of mine")
    index.add("acme/one", "1.0.0", "1.1.0")
    with pytest.raises(EntryError, match=r"_files/notes\.txt: "):
        api.mirror(there, "acme/one", prune=True)
    after = tree(there)
    assert {path: after.get(path) for path in before} == before
    assert not (there / "acme/one.json.tmp").exists() and listed(there) == {
        "acme/one": ["1.0.0"],
        "acme/two": ["1.0.0"],
    }
