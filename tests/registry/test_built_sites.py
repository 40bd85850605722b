"""Built sites and the folders that they are built of: neither is taken for the other."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hubcli import api
from hubcli.index.build import build_site
from tests.registry.checkout import checkout, commit, git
from tests.registry.entrydocs import entry, release, write
from tests.support.adapters import IndexFolder
from tests.support.cli import hubcli


@pytest.mark.parametrize("out", [".", "./site", "acme/deep/site", "../linked/site", "../site", "../index-site"])
@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_site_is_built_beside_the_index(
    out: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = write(tmp_path / "index", entry("acme/legal"))
    os.symlink(index, tmp_path / "linked")
    monkeypatch.chdir(index)
    inside = out not in ("../site", "../index-site")
    for _ in range(2):
        answer = hubcli("index", "build", ".", "--out", out, *options)
        assert answer.code == (2 if inside else 0), answer.err
        assert ("--out ../site" in answer.err) == inside
    report = api.index_check(".")
    assert report["ok"] and report["entries"] == 1 and os.listdir(index) == ["acme"]


def other(index: Path, site: Path) -> None:
    """A site of other entries, as a proposal would bring it."""
    build_site(write(index.parent / "evil", entry("acme/legal", release("9.9.9"))), site)


def endpoint(index: Path, site: Path) -> None:
    build_site(index, site, endpoint="https://evil.example")


def swapped(index: Path, site: Path) -> None:
    """What is promised of these entries, and other entries."""
    build_site(index, site)
    document = json.loads((site / "index.json").read_bytes())
    other(index, site)
    evil = json.loads((site / "index.json").read_bytes())
    (site / "index.json").write_text(json.dumps({**evil, "snapshot": document["snapshot"]}))


SITES: dict[str, tuple[Callable[[Path, Path], object], list[tuple[str, str]]]] = {
    "of these entries": (build_site, []),
    "of these entries, under a name of their own": (lambda index, site: build_site(index, site, in_one_step=True), []),
    "of others": (other, [("index.json", "snapshot")]),
    "for another hub": (endpoint, [("index.json", "endpoint")]),
    "swapped": (swapped, [("index.json", "snapshot")]),
    "no JSON": (lambda index, site: (site / "index.json").write_text("{"), [("index.json", "")]),
    "no entries": (
        lambda index, site: (build_site(index, site), (site / "entries.jsonl.gz").unlink()), [("index.json", "")],
    ),
    "entries alone": (
        lambda index, site: (build_site(index, site), (site / "index.json").unlink()), [("entries.jsonl.gz", "")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("against", [None, "main"])
@pytest.mark.parametrize("case", SITES)
def test_a_site_at_the_root_is_of_the_entries_beside_it(case: str, against: str | None, tmp_path: Path) -> None:
    """Readers of the folder take the site for the index, so that it would replace all that was checked."""
    make, faults = SITES[case]
    index = checkout(tmp_path / "index", entry("acme/legal"))
    make(index, index)
    report = api.index_check(index, against=against)
    assert [(fault["file"], fault["field"]) for fault in report["faults"]] == faults
    assert {fault["id"] for fault in report["faults"]} <= {"E_SNAPSHOT"}
    api.index_add("local", str(index), unseen=True)
    if report["ok"]:
        assert api.resolve("local:acme/legal").version == "1.0.0"


def test_a_proposal_leaves_the_site_of_before(tmp_path: Path) -> None:
    """Who keeps the site beside the entries builds it again when they are merged."""
    index = checkout(tmp_path / "index", entry("acme/legal"))
    build_site(index, index)
    commit(index)
    git(index, "branch", "-f", "main")
    write(index, entry("acme/tax"))
    assert api.index_check(index, against="main")["ok"]
    assert [fault["id"] for fault in api.index_check(index)["faults"]] == ["E_SNAPSHOT"]
    (index / "entries.jsonl.gz").write_bytes(b"")
    assert [fault["id"] for fault in api.index_check(index, against="main")["faults"]] == ["E_SNAPSHOT"]
    (index / "index.json").unlink()
    (index / "entries.jsonl.gz").unlink()
    assert api.index_check(index, against="main")["ok"]


def test_a_mirror_is_checked_with_its_site(tmp_path: Path) -> None:
    index = IndexFolder(tmp_path / "origin")
    index.add("acme/two")
    api.index_add("acme", str(index.folder))
    api.mirror(tmp_path / "mirror", "acme/two")
    assert api.index_check(tmp_path / "mirror")["ok"]
    index.add("acme/two", "1.0.0", "1.1.0")
    assert not api.mirror(tmp_path / "mirror", "acme/two")["failed"] and api.index_check(tmp_path / "mirror")["ok"]
    write(tmp_path / "mirror", entry("acme/legal"))
    assert [fault["id"] for fault in api.index_check(tmp_path / "mirror")["faults"]] == ["E_SNAPSHOT"]
