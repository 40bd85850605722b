"""Entries: a release joins what is there, byte for byte; into a branch, or a folder; and who may."""

from __future__ import annotations

import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hubcli.api import index_check
from hubcli.errors import EntryError, HubcliError, NotFoundError, PolicyError, UsageError
from hubcli.publishing.entering import entered
from hubcli.publishing.into_folder import IntoFolder
from hubcli.publishing.into_git import IntoGit
from hubcli.publishing.joining import has, joined
from hubcli.publishing.places import place_of
from tests.publish.pushed import IDENTITY, NAME, checkout, draft_of, git, listing, owners, released

FIRST = joined(draft_of(), released(draft_of()), None)
NEXT = draft_of(version="1.1.0")
BRANCH = "publish/acme/films-1.1.0"


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)


def enter(place: IntoGit | IntoFolder, draft: object = NEXT, publisher: str = "acme", *, dry_run: bool = False):  # type: ignore[no-untyped-def]
    return entered(place, draft, released(draft), publisher, dry_run=dry_run, say=lambda _: None)  # type: ignore[arg-type]


# What the file says


@pytest.mark.parametrize(
    "write",
    [
        lambda document: json.dumps(document, indent=2, ensure_ascii=False) + "\n",
        lambda document: json.dumps(document, indent=4, sort_keys=True),
        lambda document: json.dumps(document, separators=(",", ":")),
        lambda document: json.dumps(
            {k: document[k] for k in ("releases", "v", "name", "kind", "authors", "description")}
        ),
    ],
)
def test_a_new_release_leaves_every_other_byte(write: object) -> None:
    document = json.loads(FIRST)
    document["releases"].append({**document["releases"][0], "version": "1.0.1", "yanked": None, "metrics": []})
    old = write(document).encode()  # type: ignore[operator]
    new = joined(NEXT, released(NEXT), old)
    parsed = json.loads(new)
    assert [release["version"] for release in parsed["releases"]] == ["1.0.0", "1.0.1", "1.1.0"]
    assert parsed["releases"][:2] == document["releases"]
    start = next(n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    tail = old[start:]
    assert new.startswith(old[:start]) and new.endswith(tail), "one insertion is all"


def test_a_canonical_entry_stays_canonical_and_says_its_description_anew() -> None:
    draft = replace(NEXT, description="Said anew.", authors=({"name": "Acme"}, {"name": "Bé"}))
    new = joined(draft, released(draft), FIRST)
    document = json.loads(new)
    assert (document["description"], len(document["authors"])) == ("Said anew.", 2)
    assert new == json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def test_a_version_never_changes() -> None:
    draft = draft_of()
    assert has(FIRST, draft, released(draft), where="it")
    assert not has(FIRST, NEXT, released(NEXT), where="it")
    for other in (released(draft, commit="b" * 40), replace(released(draft), license="mit"),
                  replace(released(draft), version="1.0.0+again")):  # fmt: skip
        with pytest.raises(EntryError) as refused:
            has(FIRST, draft, other, where="it")
        assert refused.value.id == "E_IMMUTABLE" and "1.0.0" in refused.value.message
    with pytest.raises(EntryError) as refused:
        joined(replace(NEXT, kind="fusion"), replace(released(NEXT), requires={"a/b": "^1"}), FIRST)
    assert refused.value.id == "E_IMMUTABLE" and "kind" in refused.value.message


def test_a_yanked_release_is_the_same_release() -> None:
    document = json.loads(FIRST)
    document["releases"][0] |= {"yanked": {"reason": "wrong", "date": "2026-11-21T12:00:00Z"}, "status": "deprecated"}
    assert has(json.dumps(document).encode(), draft_of(), released(draft_of()), where="it")


# Into a branch


@pytest.mark.parametrize("sub", ["", "index/of ours/"])
def test_a_branch_and_nothing_else(tmp_path: Path, sub: str) -> None:
    top = checkout(
        tmp_path / "top", {f"{sub}{NAME}.json": FIRST, f"{sub}_owners.json": owners(acme=["acme"]), "x": "1"}
    )
    (top / "x").write_text("edited")
    (top / "new").write_text("staged")
    git(top, "add", "new")
    before = (
        listing(top),
        git(top, "status", "--porcelain"),
        git(top, "rev-parse", "HEAD"),
        git(top, "branch", "--show"),
    )
    place = place_of(top / sub, (), token=None, offline=None)
    assert place.kind == "git"
    done = enter(place)  # type: ignore[arg-type]
    assert (done.written.branch, done.written.changed) == (BRANCH, True)
    assert f"push origin {BRANCH}" in done.written.next
    after = (
        listing(top),
        git(top, "status", "--porcelain"),
        git(top, "rev-parse", "HEAD"),
        git(top, "branch", "--show"),
    )
    assert after == before
    assert git(top, "rev-parse", f"{BRANCH}^") == before[2]
    assert git(top, "diff", "--name-only", "-z", "main", BRANCH).strip("\0") == f"{sub}{NAME}.json"
    again = enter(place)  # type: ignore[arg-type]
    assert (again.written.branch, again.written.changed) == (BRANCH, False)
    git(top, "stash", "-q")
    git(top, "merge", "-q", BRANCH)
    assert enter(place).written.branch is None and not enter(place).written.changed  # type: ignore[arg-type]
    assert index_check(top / sub, against="main~1")["ok"]


def test_a_branch_with_something_else_is_refused(tmp_path: Path) -> None:
    top = checkout(tmp_path / "top", {f"{NAME}.json": FIRST})
    git(top, "branch", BRANCH)
    place = IntoGit.of(top)
    assert place is not None
    with pytest.raises(EntryError) as refused:
        enter(place)
    assert refused.value.id == "E_IMMUTABLE" and BRANCH in str(refused.value.hint)
    assert git(top, "rev-parse", BRANCH) == git(top, "rev-parse", "main")


def test_a_branch_that_is_made_in_between_is_not_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = checkout(tmp_path / "top", {f"{NAME}.json": FIRST})
    place = IntoGit.of(top)
    assert place is not None

    def branch(point: str) -> None:
        if point == "publish-before-ref" and not git(top, "branch", "--list", BRANCH):
            git(top, "branch", BRANCH)

    monkeypatch.setattr("hubcli.publishing.into_git.reach", branch)
    with pytest.raises(EntryError) as refused:
        enter(place)
    assert refused.value.id == "E_IMMUTABLE" and git(top, "rev-parse", BRANCH) == git(top, "rev-parse", "main")


def test_git_without_a_name_or_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = checkout(tmp_path / "top", {f"{NAME}.json": FIRST})
    for name in IDENTITY:
        if "CONFIG" not in name:
            monkeypatch.delenv(name)
    git(top, "config", "user.useConfigOnly", "true")
    place = IntoGit.of(top)
    assert place is not None
    with pytest.raises(UsageError, match="does not know who commits"):
        place.base(NAME)
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "-q")
    empty = IntoGit.of(tmp_path / "empty")
    assert empty is not None
    with pytest.raises(NotFoundError):
        empty.base(NAME)


def test_a_folder_that_git_has_not_is_a_folder(tmp_path: Path) -> None:
    top = checkout(tmp_path / "top", {"x": "1"})
    (top / "index").mkdir()
    assert place_of(top / "index", (), token=None, offline=None).kind == "folder"


# Into a folder


def test_a_folder_gets_the_entry_and_a_new_groups_owner(tmp_path: Path) -> None:
    (tmp_path / "_owners.json").write_text(owners(other=["other"]))
    place = IntoFolder(tmp_path)
    before = listing(tmp_path)
    assert enter(place, dry_run=True).files.keys() == {f"{NAME}.json", "_owners.json"}
    assert listing(tmp_path) == before
    assert enter(place).written.changed
    assert json.loads((tmp_path / "_owners.json").read_text())["groups"] == {"acme": ["hub:acme"], "other": ["other"]}
    assert listing(tmp_path).keys() == {f"{NAME}.json", "_owners.json"}
    state = listing(tmp_path)
    assert not enter(place).written.changed and listing(tmp_path) == state


def test_a_group_of_others_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "_owners.json").write_text(owners(acme=["someone", "hub:else"]))
    with pytest.raises(PolicyError) as refused:
        enter(IntoFolder(tmp_path))
    assert refused.value.id == "E_OWNER" and "someone, hub:else" in refused.value.message
    assert not (tmp_path / "acme").exists()


def test_writers_at_once_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits, before it writes, for the other to stand there too: only one at a time may."""
    meeting = threading.Barrier(2)

    def wait(_: str) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(timeout=0.2)

    monkeypatch.setattr("hubcli.publishing.into_folder.reach", wait)
    drafts = [draft_of(version=f"1.{number}.0") for number in range(2)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda draft: enter(IntoFolder(tmp_path), draft), drafts))
    releases = json.loads((tmp_path / f"{NAME}.json").read_text())["releases"]
    assert {release["version"] for release in releases} == {"1.0.0", "1.1.0"}


# Whose rights


def proposed(folder: Path, by: str | None, name: str = NAME) -> Any:
    """A branch or a folder as publish makes it, from the hub's namespace bigcorp."""
    place = place_of(folder, (), token=None, offline=None, by=by)
    draft = draft_of(name=name)
    release = draft.published("bigcorp/films", "a" * 40, "2026-11-21T10:00:00Z")
    return entered(place, draft, release, "bigcorp", dry_run=False, say=lambda _: None)


def test_a_new_group_gets_the_owners_that_were_stated_and_no_other(tmp_path: Path) -> None:
    """The check that the example's workflow runs takes an honest first proposal, and lends nobody's name to a namespace."""
    top = checkout(tmp_path / "top", {"_owners.json": owners(other=["other"])})
    done = proposed(top, "alice")
    git(top, "merge", "-q", done.written.branch)
    assert json.loads((top / "_owners.json").read_text())["groups"]["acme"] == ["hub:bigcorp", "user:alice"]
    assert any("hub:bigcorp and user:alice" in note for note in done.notes)
    assert index_check(top, against="main~1", by="alice")["ok"]
    for stranger in ("bigcorp", "mallory"):
        assert not index_check(top, against="main~1", by=stranger)["ok"]


def test_a_new_group_without_a_person_says_what_to_add(tmp_path: Path) -> None:
    top = checkout(tmp_path / "top", {"_owners.json": owners(other=["other"])})
    done = proposed(top, None)
    (note,) = done.notes
    assert "hub:bigcorp, and by no person" in note and "--by ACCOUNT" in note and "user:ACCOUNT" in note
    git(top, "merge", "-q", done.written.branch)
    added = (top / "_owners.json").read_text().replace('"hub:bigcorp"', '"hub:bigcorp", "user:alice"')
    assert not index_check(top, against="main~1", by="alice")["ok"]
    (top / "_owners.json").write_text(added)
    assert index_check(top, against="main~1", by="alice")["ok"]


def test_who_proposes_is_looked_at_before_the_push(tmp_path: Path) -> None:
    table = {
        "an owner": (owners(acme=["hub:bigcorp", "user:Alice"]), "alice", None),
        "a maintainer": ('{"v": 1, "maintainers": ["alice"], "groups": {"acme": ["hub:bigcorp"]}}', "alice", None),
        "a stranger": (owners(acme=["hub:bigcorp", "user:alice"]), "mallory", "not by mallory"),
        "a namespace": (owners(acme=["hub:bigcorp", "user:alice"]), "bigcorp", "not by bigcorp"),
        "no account": (owners(acme=["hub:bigcorp"]), "user:alice", "an account's name"),
    }
    for number, (name, (text, by, said)) in enumerate(table.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "_owners.json").write_text(text)
        if said is None:
            assert proposed(folder, by).notes == (), name
            continue
        with pytest.raises(HubcliError) as refused:
            proposed(folder, by)
        assert said in refused.value.message and not (folder / "acme").exists(), name
    (tmp_path / "none").mkdir()
    (note,) = proposed(tmp_path / "none", "alice").notes
    assert "--by alice is not looked at" in note


# Which index


def test_the_one_index_that_can_be_written(tmp_path: Path) -> None:
    from hubcli.config import BUNDLED, IndexConfig

    ours, theirs = IndexConfig("ours", str(tmp_path)), IndexConfig("theirs", "https://index.example/")
    bundled = IndexConfig(BUNDLED, BUNDLED)
    assert place_of(None, (theirs, ours, bundled), token=None, offline=None).where == str(tmp_path)
    assert place_of("ours", (theirs, ours), token=None, offline=None).where == str(tmp_path)
    assert place_of("hf:datasets/acme/index", (), token=None, offline=None).kind == "hub"
    table = {
        "none": (None, (theirs, bundled), "theirs (https://index.example/), bundled"),
        "two": (None, (ours, IndexConfig("more", "hf:datasets/acme/index")), "ours"),
        "read only": ("theirs", (theirs,), "can only be read"),
        "bundled": (BUNDLED, (bundled,), "can only be read"),
        "at a revision": ("hf:datasets/acme/index@v1", (), "read at v1"),
        "no dataset": ("hf:acme/index", (), "is no index"),
        "missing": (str(tmp_path / "nosuch"), (), "does not exist"),
    }
    for name, (index, configured, said) in table.items():
        with pytest.raises(HubcliError) as refused:
            place_of(index, configured, token=None, offline=None)
        assert said in refused.value.message, name
