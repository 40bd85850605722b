"""A proposal against a revision: what git says was published stays, and nothing in the repository is run (THREATS 5, 11)."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hubcli import api
from hubcli.errors import HubcliError, NotFoundError, UsageError
from hubcli.index import git as reading
from hubcli.index.check import check_folder
from hubcli.index.state import folder_state
from tests.registry.checkout import checkout, commit, git
from tests.registry.entrydocs import dump, entry, release, write, yank

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def found(folder: Path, against: str = "main") -> list[tuple[str, str, str]]:
    state = reading.revision_state(folder, against)
    return [(file, fault.id, fault.field) for file, fault in check_folder(folder, against=state, now=NOW).faults]


@pytest.mark.parametrize("under", [".", "registry", "a b/ünï"])
@pytest.mark.parametrize("revision", ["main", "v1", "origin/main", "HEAD~1", "COMMIT"])
def test_a_revision_is_what_was_published_there(tmp_path: Path, under: str, revision: str) -> None:
    index = checkout(tmp_path / "repo", entry("acme/legal"), entry("acme/tax"), under=under)
    git(index, "tag", "-a", "v1", "-m", "one")
    git(index, "update-ref", "refs/remotes/origin/main", "main")
    main = git(index, "rev-parse", "main")
    before = folder_state(index)
    write(index, entry("acme/legal", release(license="mit")), entry("acme/fresh"))
    commit(index)
    (index / "acme" / "uncommitted.json").write_bytes(dump(entry("acme/uncommitted")))
    state = reading.revision_state(index, main if revision == "COMMIT" else revision)
    assert (state.entries, state.meta, state.owners) == (before.entries, before.meta, before.owners)
    assert found(index) == [("acme/legal.json", "E_IMMUTABLE", "releases[0].license")]
    assert git(index, "status", "--porcelain") == f"?? {git(index, 'ls-files', '-o', '--full-name', ':/')}"


def edited(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(index: Path) -> None:
        document = copy.deepcopy(
            entry("acme/legal", release("1.0.0"), release("2.0.0", published="2026-03-01T00:00:00Z"))
        )
        edit(document)
        write(index, document)

    return apply


def new(version: str, published: str) -> Callable[[Path], None]:
    return edited(lambda document: document["releases"].append(release(version, published=published)))


CHANGES: dict[str, tuple[Callable[[Path], None], list[tuple[str, str, str]]]] = {
    "nothing": (lambda index: None, []),
    "a yank": (edited(lambda d: d["releases"][0].update(yanked=yank())), []),
    "a status": (edited(lambda d: d["releases"][0].update(status="archived", status_reason="old")), []),
    "a description": (edited(lambda d: d.update(description="Better.")), []),
    "a hash": (
        edited(lambda d: d["releases"][0]["files"][1].update(sha256="0" * 64)),
        [("acme/legal.json", "E_IMMUTABLE", "releases[0].files[1].sha256")],
    ),
    "a version gone": (edited(lambda d: d["releases"].pop()), [("acme/legal.json", "E_IMMUTABLE", "releases")]),
    "build metadata": (
        edited(lambda d: d["releases"].append(release("1.0.0+x"))),
        [("acme/legal.json", "E_VERSION", "releases[2].version")],
    ),
    "an entry gone": (lambda index: (index / "acme/legal.json").unlink(), [("acme/legal.json", "E_IMMUTABLE", "")]),
    "an entry renamed": (
        lambda index: (write(index, entry("acme/other")), (index / "acme/legal.json").unlink())[0],
        [("acme/legal.json", "E_IMMUTABLE", "")],
    ),
    "a release": (new("2.1.0", "2026-04-01T00:00:00Z"), []),
    "an older line goes on": (new("1.0.1", "2026-02-15T00:00:00Z"), []),
    "the clock of another": (new("2.1.0", "2026-06-01T00:09:00Z"), []),
    "the future": (new("2.1.0", "2026-06-01T00:11:00Z"), [("acme/legal.json", "E_SCHEMA", "releases[2].published")]),
    "before the one before": (
        new("2.1.0", "2026-02-15T00:00:00Z"),
        [("acme/legal.json", "E_SCHEMA", "releases[2].published")],
    ),
    "a near name": (
        lambda index: write(index, entry("acme/leagl"), entry("acme/sumarise")),
        [("acme/leagl.json", "E_NAME_COLLISION", "name"), ("acme/sumarise.json", "E_NAME_COLLISION", "name")],
    ),
    "a near group": (
        lambda index: write(index, entry("contrcats/other")),
        [("contrcats/", "E_NAME_COLLISION", "name")],
    ),
    "a file for nothing": (
        lambda index: (index / "_files" / ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")).touch(),
        [("_files/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "E_NOT_FOUND", "")],
    ),
    "a link": (lambda index: (index / "acme/evil.json").symlink_to("/etc/hostname"), [("acme/evil.json", "E_PATH_UNSAFE", "")]),
    "a folder of that name": (lambda index: (index / "acme/evil.json").mkdir(), [("acme/evil.json", "E_PATH_UNSAFE", "")]),
    "a published entry is a link": (
        lambda index: ((index / "acme/legal.json").rename(index / "x"), (index / "acme/legal.json").symlink_to("../x"))[1],
        [("acme/legal.json", "E_PATH_UNSAFE", ""), ("acme/legal.json", "E_IMMUTABLE", "")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_proposal_changes(tmp_path: Path, name: str) -> None:
    legal = entry("acme/legal", release("1.0.0"), release("2.0.0", published="2026-03-01T00:00:00Z"))
    index = checkout(tmp_path / "repo", legal, entry("acme/summarize"), entry("contracts/short"))
    (index / "_files").mkdir()
    change, faults = CHANGES[name]
    change(index)
    assert sorted(found(index)) == sorted(faults)


def both(**changes: Any) -> dict[str, Any]:
    """A composition of acme/films and acme/tax."""
    fields = {"method": None, "method_config": {}, "expression": "average(acme/films, acme/tax)", "files": [], "hub": None,
              "head": None, "requires": {"acme/films": "^1.0", "acme/tax": "^1.0"}, **changes}  # fmt: skip
    return entry("acme/both", release(**fields), kind="composition")


OLD, NEW, RC = release("1.0.0"), release("3.0.0"), release("1.1.0-rc.1")
AWAY = "acme/tax is in another index, or in none: who installs acme/both needs it from there"
LOST = "acme/both 1.0.0 can't be installed: it requires acme/films ^1.0, which is withdrawn"
WANTED: dict[str, tuple[tuple[dict[str, Any], ...], dict[str, Any], list[str], list[str]]] = {
    "it is there": ((OLD, NEW), {}, [], [AWAY]),
    "it is not": ((NEW,), {}, ["E_REQUIRES"], [AWAY]),
    "a prerelease is none": ((RC,), {}, ["E_REQUIRES"], [AWAY]),
    "withdrawn itself": ((NEW,), {"yanked": yank()}, [], []),
    "quarantined itself": ((NEW,), {"status": "quarantined", "status_reason": "x"}, [], []),
    "what it needs is yanked": (({**OLD, "yanked": yank()}, NEW), {}, [], [LOST, AWAY]),
    "what it needs is quarantined": (({**OLD, "status": "quarantined", "status_reason": "x"}, NEW), {}, [], [LOST, AWAY]),
    "a yanked one by its version": (({**OLD, "yanked": yank()},), {"requires": {"acme/films": "=1.0.0", "acme/tax": "^1"}}, [], [AWAY]),
    "no range": ((OLD,), {"requires": {"acme/films": "newest", "acme/tax": "^1"}}, ["E_VERSION"], [AWAY]),
}  # fmt: skip


@pytest.mark.parametrize("case", WANTED)
def test_what_a_composition_requires_of_its_own_index(tmp_path: Path, case: str) -> None:
    """The oracle is the resolver, with this index alone and, for what is of another, with both."""
    films, changes, ids, notes = WANTED[case]
    index = write(tmp_path / "index", entry("acme/films", *films), both(**changes))
    report = api.index_check(index)
    assert [fault["id"] for fault in report["faults"]] == ids and report["notes"] == notes
    if ids in ([], ["E_REQUIRES"]):
        api.index_add("one", str(index))
        api.index_add("two", str(write(tmp_path / "other", entry("acme/tax"))))
        found = bool(ids) or LOST in notes or changes.get("yanked") or changes.get("status")
        with pytest.raises(HubcliError) if found else contextlib.nullcontext():  # type: ignore[attr-defined]
            api.resolve("acme/both@^1")


def test_a_bare_word_in_a_checkout_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proposal may bring a folder `origin/main` that looks like what it proposes."""
    index = checkout(tmp_path / "repo", entry("acme/legal"))
    monkeypatch.chdir(index)
    write(index, entry("acme/legal", release(license="mit")))
    write(index / "origin" / "main", entry("acme/legal", release(license="mit")))
    for against, ok in (("main", False), ("./origin/main", True), (Path("origin/main"), True), (str(index), True)):
        faults = api.index_check(index, against=against)["faults"]
        assert bool([f for f in faults if f["id"] == "E_IMMUTABLE"]) != ok, against
    with pytest.raises(NotFoundError, match="no revision origin/main"):
        api.index_check(index, against="origin/main")
    outside = write(tmp_path / "plain", entry("acme/legal"))
    monkeypatch.chdir(tmp_path)
    assert api.index_check(outside, against="repo")["faults"][0]["id"] == "E_IMMUTABLE"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFoundError, match="git is not installed"):
        api.index_check(index, against="main")


@pytest.mark.parametrize(
    "revision", ["nosuch", "--help", "-h", "main:acme", "", "HEAD\n", "main^{tree}", "\x00", "main --all"]
)
def test_a_revision_that_is_none(tmp_path: Path, revision: str) -> None:
    index = checkout(tmp_path / "repo", entry("acme/legal"))
    with pytest.raises(HubcliError):
        reading.revision_state(index, revision)


def test_a_revision_without_the_folder_checks_nothing(tmp_path: Path) -> None:
    index = checkout(tmp_path / "repo", entry("acme/legal"), under="registry")
    git(index, "mv", "../registry", "../moved")
    with pytest.raises(NotFoundError, match="has no folder moved"):
        reading.revision_state(tmp_path / "repo" / "moved", "main")


def test_nothing_of_a_hostile_repository_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = checkout(tmp_path / "repo", entry("acme/legal"))
    (index / ".gitattributes").write_text("*.json filter=evil diff=evil export-ignore export-subst\n")
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\ncat\n")
    script.chmod(0o755)
    commit(index)
    names = ("core.fsmonitor", "core.pager", "core.editor", "core.sshCommand", "core.askPass", "diff.external",
             "filter.evil.smudge", "filter.evil.clean", "filter.evil.process", "diff.evil.textconv", "alias.ls-tree",
             "remote.origin.uploadpack", "uploadpack.packObjectsHook", "gpg.program", "credential.helper")  # fmt: skip
    for name in names:
        git(index, "config", name, str(script))
    for name, value in (("remote.origin.url", f"ext::{script}"), ("remote.origin.promisor", "true"), ("protocol.ext.allow", "always"),
                        ("extensions.partialClone", "origin"), ("core.repositoryformatversion", "1")):  # fmt: skip
        git(index, "config", name, value)
    for hook in ("post-checkout", "post-index-change", "reference-transaction", "pre-auto-gc", "fsmonitor-watchman"):
        (index / ".git/hooks" / hook).write_text(script.read_text())
        (index / ".git/hooks" / hook).chmod(0o755)
    assert list(reading.revision_state(index, "main").entries) == ["acme/legal"]
    with pytest.raises(HubcliError):
        reading.revision_state(index, "1" * 40)
    blob = git(index, "rev-parse", "main:acme/legal.json")
    (index / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(UsageError):
        reading.revision_state(index, "main")
    assert not (tmp_path / "ran").exists()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert reading.commit_of(index, "main") == git_head(index)


def git_head(index: Path) -> str:
    return (index / ".git/refs/heads/main").read_text().strip()


def test_a_folder_that_looks_like_a_repository_is_none(tmp_path: Path) -> None:
    """A proposal may bring HEAD, objects/ and refs/ of its own into the folder."""
    index = checkout(tmp_path / "repo", entry("acme/legal"), under="registry")
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(tmp_path / "bare"))
    for path in (tmp_path / "bare").iterdir():
        path.rename(index / path.name)
    with pytest.raises(UsageError):
        reading.revision_state(index, "main")


def test_links_and_giants_at_a_revision(tmp_path: Path) -> None:
    index = checkout(tmp_path / "repo", entry("acme/legal"))
    (index / "acme/big.json").write_bytes(b" " * (reading.ENTRY_LIMIT + 5))
    (index / "acme/link.json").symlink_to("legal.json")
    os.symlink("acme", index / "linked")
    (index / "top.json").write_bytes(b"{}")
    (index / ".github").mkdir()
    (index / ".github/x.json").write_bytes(b"{}")
    (index / "acme/deeper").mkdir()
    (index / "acme/deeper/x.json").write_bytes(b"{}")
    commit(index)
    state = reading.revision_state(index, "proposal")
    assert sorted(state.entries) == ["acme/big", "acme/legal", "top"]
    assert len(state.entries["acme/big"]) == reading.ENTRY_LIMIT + 1
    now = folder_state(index)
    assert sorted(now.entries) == sorted(state.entries) and now.links == ("acme/link.json", "linked")
