"""A branch in checkouts of every sort: what can't be a branch is said before the push, and nothing that a checkout names is run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hubcli.errors import EntryError, HubcliError, NotFoundError, UsageError
from hubcli.publishing.draft import Draft
from hubcli.publishing.entering import entered
from hubcli.publishing.into_git import IntoGit, branch_of
from hubcli.publishing.joining import joined
from hubcli.publishing.place import Place
from hubcli.publishing.places import place_of
from tests.publish.pushed import IDENTITY, NAME, checkout, draft_of, git, listing, released

FIRST, NEXT = draft_of(), draft_of(version="1.2.0")
ENTRY = b'{"v": 1}\r\n'


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)


def opened(folder: Path) -> Place:
    place = place_of(folder, (), token=None, offline=None)
    assert isinstance(place, IntoGit)
    return place


def notes(place: Place, draft: Draft) -> list[str]:
    return [*entered(place, draft, released(draft), "acme", dry_run=True, say=lambda _: None).notes]


def test_what_waits_beside_it_is_told_and_a_newer_one_that_is_out(tmp_path: Path) -> None:
    top = checkout(tmp_path / "top", {f"{NAME}.json": joined(FIRST, released(FIRST), None)})
    place = opened(top)
    waits = draft_of(version="1.1.0")
    entered(place, waits, released(waits), "acme", dry_run=False, say=lambda _: None)
    write(place, f"{NAME}-lora", "1.0.0")  # another entry's
    (said,) = notes(place, NEXT)
    assert "1.1.0 waits in branch publish/acme/films-1.1.0: " in said and "conflict" in said
    git(top, "merge", "-q", "publish/acme/films-1.1.0")
    assert notes(place, NEXT) == []
    (said,) = notes(place, draft_of(version="1.0.1"))
    assert said.startswith("1.0.1 is older than 1.1.0")


def write(place: Place, name: str = NAME, version: str = "1.0.0") -> str:
    """As publish does: look for what waits, then write; the branch."""
    base = place.base(name)
    assert place.waiting(name, version) is None
    branch = place.write(base, {f"{name}.json": ENTRY}, name, version).branch
    assert branch
    return branch


def bytes_of(top: Path, where: str) -> bytes:
    return subprocess.run(["git", "-C", str(top), "show", where], capture_output=True, check=True).stdout


def test_branches_are_called_by_the_whole_name(tmp_path: Path) -> None:
    top = checkout(tmp_path / "top", {"_owners.json": "{}", ".gitattributes": "* text eol=crlf"})
    made = [write(opened(top), name) for name in ("a/b-c", "a-b/c")]
    assert made == ["publish/a/b-c-1.0.0", "publish/a-b/c-1.0.0"]
    assert bytes_of(top, "publish/a/b-c-1.0.0:a/b-c.json") == ENTRY, "no attribute changes a byte"


def test_a_repository_of_sha256(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    git(tmp_path / "top", "init", "-q", "--object-format", "sha256")
    top = checkout(tmp_path / "top", {"_owners.json": "{}"})
    branch = write(opened(top))
    assert len(git(top, "rev-parse", branch)) == 64 and bytes_of(top, f"{branch}:{NAME}.json") == ENTRY


def test_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b'ind\xe9x\t"')).mkdir()
    except OSError:
        pytest.skip("this file system takes text alone")
    sub = os.fsdecode(b'ind\xe9x\t"')
    top = checkout(tmp_path, {f"{sub}/_owners.json": "{}"})
    branch = write(opened(top / sub))
    listed = bytes_of(top, branch)
    assert b"\n" in listed
    names = subprocess.run(
        ["git", "-C", str(top), "ls-tree", "-r", "-z", "--name-only", branch], capture_output=True, check=True
    ).stdout.split(b"\0")
    assert b'ind\xe9x\t"/acme/films.json' in names and b'ind\xe9x\t"/_owners.json' in names


@pytest.mark.parametrize("taken", ["publish", "publish/acme", f"{branch_of(NAME, '1.0.0')}/more"])
def test_a_branch_that_is_in_the_way(tmp_path: Path, taken: str) -> None:
    top = checkout(tmp_path / "top", {"_owners.json": "{}"})
    git(top, "branch", taken)
    place = opened(top)
    place.base(NAME)
    with pytest.raises(UsageError, match=f"branch {taken}") as refused:
        place.waiting(NAME, "1.0.0")
    assert f"branch -m {taken}" in str(refused.value.hint)


def test_a_version_that_can_name_no_branch(tmp_path: Path) -> None:
    top = checkout(tmp_path / "top", {"_owners.json": "{}"})
    with pytest.raises(UsageError, match=r"1\.0\.0-a\.lock"):
        opened(top).waiting(NAME, "1.0.0-a.lock")


def test_a_checkout_without_a_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "start")
    with pytest.raises(NotFoundError, match="no commit yet on start") as refused:
        opened(tmp_path).base(NAME)
    assert "commit" in str(refused.value.hint) and "fetch" not in str(refused.value.hint)


def test_who_writes_has_to_be_known_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = checkout(tmp_path, {"_owners.json": "{}"})
    git(top, "config", "user.useConfigOnly", "true")
    for what in ("NAME", "EMAIL"):
        monkeypatch.delenv(f"GIT_AUTHOR_{what}")
    with pytest.raises(UsageError, match="does not know who commits"):
        opened(top).base(NAME)


def test_nothing_that_a_checkout_names_is_run(tmp_path: Path) -> None:
    top = checkout(tmp_path / "top", {"_owners.json": "{}", ".gitattributes": "* filter=evil"})
    mark = tmp_path / "ran"
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\necho $0 >> {mark}\nexit 1\n")
    script.chmod(0o755)
    hooks = top / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("reference-transaction", "post-index-change", "pre-commit", "prepare-commit-msg", "post-commit"):
        (hooks / hook).symlink_to(script)
    for key in ("core.fsmonitor", "filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "gpg.program",
                "core.pager", "core.editor"):  # fmt: skip
        git(top, "config", key, str(script))
    git(top, "config", "commit.gpgSign", "true")
    git(top, "config", "core.splitIndex", "true")
    before = {path.name for path in (top / ".git").iterdir()}
    mark.unlink(missing_ok=True)
    place = opened(top)
    branch = write(place)
    place.planned(NAME, "1.0.0")
    assert place.waiting(NAME, "1.0.0") is not None
    assert not mark.exists(), mark.read_text()
    assert {path.name for path in (top / ".git").iterdir()} == before, "no index of ours stays behind"
    assert bytes_of(top, f"{branch}:{NAME}.json") == ENTRY


@pytest.mark.parametrize("link", ["acme", "acme/films.json", "_owners.json"])
@pytest.mark.parametrize("kind", ["git", "folder"])
def test_what_is_published_through_a_link_is_not_written_over(tmp_path: Path, link: str, kind: str) -> None:
    """Readers follow a link in a folder, so that a fresh entry in its place would lose every release that they have."""
    index, other = tmp_path / "index", tmp_path / "other"
    (other / "acme").mkdir(parents=True)
    (other / "acme" / "films.json").write_bytes(ENTRY)
    (other / "_owners.json").write_text('{"v": 1, "groups": {"acme": ["someone"]}}')
    (index / link).parent.mkdir(parents=True)
    (index / link).symlink_to(other / link)
    if kind == "git":
        checkout(index, {"x": "1"})
    before = listing(tmp_path)
    place = place_of(index, (), token=None, offline=None)
    assert place.kind == kind
    with pytest.raises(EntryError) as refused:
        place.base(NAME)
    assert refused.value.id == "E_PATH_UNSAFE" and link in refused.value.message and listing(tmp_path) == before


def test_a_proposal_of_another_is_not_thrown_away_by_what_the_hint_says(tmp_path: Path) -> None:
    top = checkout(tmp_path / "top", {"_owners.json": "{}"})
    git(top, "branch", branch_of(NAME, "1.0.0"))
    waiting = opened(top).waiting(NAME, "1.0.0")
    assert waiting is not None and " -D" not in waiting.undo
    subprocess.run(waiting.undo, shell=True, check=True)
    assert opened(top).waiting(NAME, "1.0.0") is None and len(git(top, "branch", "--list").splitlines()) == 2


def test_errors_say_what_git_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = checkout(tmp_path / "top", {"_owners.json": "{}"})
    place = opened(top)
    base = place.base(NAME)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HubcliError, match="git is not installed"):
        place.write(base, {f"{NAME}.json": ENTRY}, NAME, "1.0.0")
