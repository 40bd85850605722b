"""mirror once more: what a second run fetches, takes over, keeps and removes (THREATS 41)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hubcli import api
from tests.registry.entrydocs import yank
from tests.registry.mirror.mirrors import change, listed, rows, tree
from tests.support.adapters import IndexFolder
from tests.support.cli import hubcli


def test_a_second_run_fetches_nothing_and_changes_nothing(index: IndexFolder, there: Path) -> None:
    api.mirror(there, "acme/both")
    before = tree(there)
    report = api.mirror(there, "acme/both")
    assert report["fetched"] == 0 and not any(rows(report).values()) and tree(there) == before
    assert hubcli("mirror", str(there), "acme/both").out.splitlines()[0].startswith("there (verified): acme/both 1.0.0")


def test_what_was_withdrawn_since_is_taken_over_whatever_is_asked_for(
    index: IndexFolder, there: Path, elsewhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBCLI_HOME", str(there.parent / "keeper"))
    api.index_remove("bundled")
    api.index_add("acme", str(index.folder))
    api.mirror(there, "acme/one@1.0.0", "acme/one@1.1.0", "acme/two")
    change(index, "acme/one", "1.1.0", yanked=yank("wrong labels"))
    change(index, "acme/one", "1.0.0", status="deprecated", status_reason="old")
    change(index, "acme/two", "1.0.0", status="quarantined", status_reason="harm")
    report = api.mirror(there, "acme/one@1.0.0")
    told = {(row["name"], row["version"], row["what"]) for row in report["refreshed"]}
    assert told == {
        ("acme/one", "1.1.0", "yanked"), ("acme/one", "1.0.0", "status"), ("acme/one", "1.0.0", "status_reason"),
        ("acme/two", "1.0.0", "status"), ("acme/two", "1.0.0", "status_reason"),
    }  # fmt: skip
    monkeypatch.setenv("HUBCLI_HOME", str(there.parent / "elsewhere"))
    api.index_remove("bundled")
    api.index_add("local", str(there))
    assert api.resolve("acme/one").version == "1.0.0"
    assert hubcli("install", "acme/two").code == 6
    assert "wrong labels" in hubcli("install", "acme/one@1.1.0").err
    monkeypatch.setenv("HUBCLI_HOME", str(there.parent / "keeper"))
    change(index, "acme/one", "1.1.0", yanked=None)
    assert [row["what"] for row in api.mirror(there, "acme/one@1.0.0")["refreshed"]] == ["yanked"]


def test_a_damaged_file_is_fetched_again(index: IndexFolder, there: Path) -> None:
    api.mirror(there, "acme/two")
    before = tree(there)
    file = max((there / "_files").iterdir(), key=lambda file: file.stat().st_size)
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    report = api.mirror(there, "acme/two")
    assert rows(report) == {"acme/two@1.0.0": True} and tree(there) == before


def test_nothing_is_removed_but_by_prune(index: IndexFolder, there: Path) -> None:
    api.mirror(there, all=True)
    assert api.mirror(there, "acme/two")["entries"] == 3
    planned = api.mirror(there, "acme/two", prune=True, dry_run=True)
    assert planned["removed"] == ["acme/both@1.0.0", "acme/one@1.0.0", "acme/one@1.1.0", "acme/one@2.0.0"]
    assert len(listed(there)) == 3
    assert "acme/nope" in api.mirror(there, "acme/two", "acme/nope", prune=True)["failed"][0]["error"]["message"]
    assert len(listed(there)) == 3
    done = api.mirror(there, "acme/two", prune=True)
    assert listed(there) == {"acme/two": ["1.0.0"]} and done["removed"][:4] == planned["removed"]
    assert len(list((there / "_files").iterdir())) == done["files"] == 3 and api.index_check(there)["ok"]
    assert sorted(p.name for p in there.iterdir() if p.is_dir()) == ["_files", "acme"]


def test_a_release_that_is_other_now_is_refused_and_the_old_one_kept(index: IndexFolder, there: Path) -> None:
    api.mirror(there, all=True)
    before = tree(there)
    change(index, "acme/two", "1.0.0", license="mit")
    report = api.mirror(there, all=True)
    assert [(row["ref"], row["error"]["id"]) for row in report["failed"]] == [("acme/two", "E_IMMUTABLE")]
    assert "another license" in report["failed"][0]["error"]["message"] and tree(there) == before


def test_what_the_index_has_no_more_is_kept_with_a_note(index: IndexFolder, there: Path) -> None:
    api.mirror(there, all=True)
    (index.folder / "acme/both.json").unlink()
    document = json.loads((index.folder / "acme/one.json").read_bytes())
    document["releases"] = document["releases"][1:]
    (index.folder / "acme/one.json").write_text(json.dumps(document))
    report = api.mirror(there, "acme/two")
    assert (
        report["failed"] == []
        and listed(there)["acme/one"] == ["1.1.0", "2.0.0", "1.0.0"]
        and "acme/both" in listed(there)
    )
    assert any("acme/one 1.0.0 is kept as it was" in note for note in report["notes"])
    assert any("acme/both is kept as it was" in note for note in report["notes"])


def test_an_entry_that_can_not_be_read_now_is_told_once_and_kept(index: IndexFolder, there: Path) -> None:
    api.mirror(there, "acme/two")
    before = tree(there)
    (index.folder / "acme/two.json").write_text("{}")
    report = api.mirror(there, "acme/two")
    assert [row["ref"] for row in report["failed"]] == ["acme/two"] and tree(there) == before
    assert any("what was withdrawn since is not known" in note for note in report["notes"])


def test_an_entry_is_never_taken_from_another_index(index: IndexFolder, there: Path, tmp_path: Path) -> None:
    api.mirror(there, "acme/two")
    other = IndexFolder(tmp_path / "other")
    other.add("acme/two", "1.0.0", "9.0.0")
    api.index_remove("acme")
    api.index_add("other", str(other.folder))
    report = api.mirror(there, "acme/two@9")
    assert listed(there)["acme/two"] == ["1.0.0"]
    assert report["failed"][0]["ref"] == "acme/two"
