"""One repo in the storage: what it is, its refs and commits, and how a commit is added. Knows nothing of HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hubcli.server.crash import reach
from hubcli.server.discussions import Discussion
from hubcli.server.disk import disk_errors, held, write_document
from hubcli.server.faults import BadRequestFault, EntryMissing, RepoMissing, RevisionMissing, WriteDenied
from hubcli.server.names import check_ref_name, is_commit_id
from hubcli.server.objects import Commit, FileEntry, Refs, Settings, make_commit, timestamp

if TYPE_CHECKING:
    from hubcli.server.repos import RepoStore

MAIN = "main"

Edit = Callable[[Commit | None], Mapping[str, FileEntry]]


@dataclass(frozen=True, slots=True)
class Words:
    """What a commit says of itself; `date` None is now."""

    title: str
    message: str = ""
    author: str = "hubcli"
    date: datetime | None = None


class Repo:
    """One repo: its settings, refs and commits."""

    def __init__(self, store: RepoStore, path: Path):
        self.store = store
        self.path = path

    @contextlib.contextmanager
    def locked(self, *, new: bool = False) -> Iterator[None]:
        """Hold the lock under which a repo changes, across processes; `new` makes its folder.

        The lock's file lies outside the repo's folder, which comes and goes under it, and is never removed.
        Raises RepoMissing if the repo is gone, also when it went while this waited; BusyError after a minute.
        """
        with held(self.store.lock_path(self.path)):
            if new:
                with disk_errors(str(self.path)):
                    self.path.mkdir(parents=True, exist_ok=True)
            elif not (self.path / "repo.json").exists():
                raise self._gone()
            yield

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """`locked`, for what a person pushes; WriteDenied as `check_changeable`, also where it came to that meanwhile."""
        with self.locked():
            self.check_changeable()
            yield

    def check_changeable(self) -> None:
        """WriteDenied for a repo that follows a folder: the next start would undo the change."""
        if self.settings.origin == "plain":
            raise WriteDenied(
                f"{self.id} follows a folder of the served tree, which its owner changes; import the folder to change it here"
            )

    @property
    def settings(self) -> Settings:
        """What the repo is; RepoMissing if it is gone."""
        try:
            settings = self.store.documents.read(self.path / "repo.json", Settings.from_json)
        except FileNotFoundError:
            raise self._gone() from None
        if settings.moving_to and self.path.name == settings.moving_to.replace("/", "--"):
            return replace(settings, id=settings.moving_to, moving_to="")
        return settings

    @property
    def id(self) -> str:
        """The repo's id, "" if it is gone."""
        try:
            return self.settings.id
        except RepoMissing:
            return ""

    def _gone(self) -> RepoMissing:
        return RepoMissing(f"the repo {self.path.name.replace('--', '/')} is gone")

    def change_settings(
        self, *, private: bool | None = None, gated: bool | str | None = None, pushed: bool = False
    ) -> None:
        """Set what is given; None leaves a setting as it is. Nothing is written where nothing changes.

        `pushed`: by a person over HTTP, with `changing`'s refusals.
        """

        def changed(old: Settings) -> Settings:
            return replace(
                old, private=old.private if private is None else private, gated=old.gated if gated is None else gated
            )

        if changed(self.settings) != self.settings:
            with self.changing() if pushed else self.locked():
                write_document(self.path / "repo.json", changed(self.settings).to_json())

    def refs(self) -> Refs:
        """Branches and tags as they are now."""
        try:
            return self.store.documents.read(self.path / "refs.json", Refs.from_json)
        except FileNotFoundError:
            return Refs()

    def commit(self, commit_id: str) -> Commit:
        """The commit with this full id, else RevisionMissing."""
        try:
            if is_commit_id(commit_id):
                return self.store.documents.read(self.path / "commits" / f"{commit_id}.json", Commit.from_json)
        except FileNotFoundError:
            pass
        raise RevisionMissing(f"{self.settings.id} has no commit {commit_id}")

    def resolve(self, revision: str) -> Commit:
        """The commit that a branch, a tag, `refs/heads/…`, `refs/tags/…`, `refs/pr/…` or a full id names.

        RevisionMissing if there is none.
        """
        if is_commit_id(revision):
            return self.commit(revision)
        refs = self.refs()
        name = check_ref_name(revision.removeprefix("refs/"))
        if name == revision:
            found = refs.branches.get(name) or refs.tags.get(name)
        else:
            kind, _, name = name.partition("/")
            named = {"heads": refs.branches, "tags": refs.tags}
            found = self._pull_head(name) if kind == "pr" else named.get(kind, {}).get(name)
        if found is None:
            raise RevisionMissing(f"{self.settings.id} has no revision {revision!r}")
        return self.commit(found)

    def discussion(self, number: int) -> Discussion:
        """The discussion or pull request of this number; FileNotFoundError if there is none."""
        return self.store.documents.read(self.path / "discussions" / f"{number}.json", Discussion.from_json)

    def discussion_numbers(self) -> list[int]:
        """The numbers of all discussions and pull requests, in order."""
        folder = self.path / "discussions"
        names = [path.stem for path in folder.glob("*.json")] if folder.is_dir() else []
        return sorted(int(name) for name in names if name.isdigit())

    def _pull_head(self, number: str) -> str | None:
        try:
            return self.discussion(int(number)).head if number.isascii() and number.isdigit() else None
        except FileNotFoundError:
            return None

    def history(self, commit: Commit) -> Iterator[Commit]:
        """A commit and all before it, newest first."""
        current: Commit | None = commit
        while current is not None:
            yield current
            current = self.commit(current.parent) if current.parent else None

    def blob(self, commit: Commit, path: str) -> tuple[FileEntry, Path]:
        """A file of a commit and where its bytes lie; EntryMissing if the commit has no such file."""
        entry = commit.files.get(path)
        if entry is None:
            raise EntryMissing(f"{self.settings.id} has no file {path!r} at {commit.id}", commit=commit.id)
        return entry, self.store.blobs.path(entry.sha256)

    def add_commit(
        self,
        files: Mapping[str, FileEntry],
        *,
        branch: str = MAIN,
        title: str,
        message: str = "",
        author: str = "hubcli",
        date: datetime | None = None,
    ) -> Commit:
        """Move a branch to a commit with exactly these files, whose bytes are in the store already.

        The same files as the branch has now give no new commit. A new branch starts from main; a repo's first commit
        goes to main.
        """
        check_ref_name(branch)
        head = self.refs().branches.get(branch)
        if head and dict(self.commit(head).files) == dict(files):
            return self.commit(head)
        with self.locked():
            return self.commit_to(branch, lambda _: files, Words(title, message, author, date))

    def commit_to(self, branch: str, edit: Edit, words: Words) -> Commit:
        """Move a branch, under the lock the caller holds, to the files that `edit` makes of its newest commit's."""
        refs = self.refs()
        self._check_branch(refs, branch)
        parent = self.commit(refs.branches.get(branch, refs.branches[MAIN])) if refs.branches else None
        commit = self.write_commit(parent, edit(parent), words)
        if refs.branches.get(branch) != commit.id:
            self.write_refs(replace(refs, branches={**refs.branches, branch: commit.id}))
        return commit

    def write_commit(self, parent: Commit | None, files: Mapping[str, FileEntry], words: Words) -> Commit:
        """A commit that no ref names yet; the parent itself where the files are the same."""
        if parent and dict(parent.files) == dict(files):
            return parent
        before, when = parent.id if parent else None, timestamp(words.date)
        commit = make_commit(before, files, author=words.author, title=words.title, message=words.message, date=when)
        reach("before-commit")
        write_document(self.path / "commits" / f"{commit.id}.json", commit.to_json())
        reach("after-commit")
        return commit

    def _check_branch(self, refs: Refs, branch: str) -> None:
        if branch in refs.tags:
            raise BadRequestFault(f"{self.settings.id}: {branch!r} is a tag, and tags do not move")
        if MAIN not in refs.branches and branch != MAIN:
            raise BadRequestFault(f"{self.settings.id}: expected the first commit of a repo on main, found {branch!r}")

    def add_tag(self, name: str, commit: Commit) -> None:
        """Name a commit for good: BadRequestFault if the tag names another one, or a branch has this name."""
        check_ref_name(name)
        with self.locked():
            refs = self.refs()
            there = refs.tags.get(name, commit.id)
            if there != commit.id or name in refs.branches:
                what = "a branch" if name in refs.branches else f"tag of {there}"
                raise BadRequestFault(f"{self.settings.id}: expected a new tag, found {name!r} to be {what}")
            if name not in refs.tags:
                self.write_refs(replace(refs, tags={**refs.tags, name: commit.id}))

    def write_refs(self, refs: Refs) -> None:
        """Let branches and tags be these, under the lock the caller holds."""
        reach("before-refs")
        write_document(self.path / "refs.json", refs.to_json())
        reach("after-refs")
