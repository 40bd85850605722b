"""The storage: repos of commits that never change, in a folder. Knows nothing of HTTP.

    FOLDER/.hub/blobs/<sha256>                        the bytes of every file of every commit, once
    FOLDER/.hub/{models,datasets}/<org>--<name>/      one repo (`--` can't stand in a repo id)
        repo.json                                     id, type, private, gated, extra tags, created, origin
        refs.json                                     branches and tags: name -> commit id
        commits/<40 hex>.json                         parent, date, author, title, message, files
        .lock                                         held while refs or settings change

Everything is written to a temporary file, synced, and renamed into place, in the order blobs, commit, refs: whoever
reads sees a whole commit or none, and a crash leaves at most a blob or a commit that no ref names. Every document
carries `v`, its format. A commit's id is the SHA-1 of its own content, checked when it is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from hubcli.errors import BusyError, NotFoundError
from hubcli.server.disk import Blobs, Documents, disk_errors, write_document
from hubcli.server.faults import BadRequestFault, EntryMissing, RepoMissing, RevisionMissing
from hubcli.server.names import check_ref_name, check_repo_id, check_repo_type, is_commit_id
from hubcli.server.objects import Commit, FileEntry, Refs, Settings, make_commit, timestamp

STATE = ".hub"
MAIN = "main"
SECONDS_TO_WAIT = 60


class RepoStore:
    """All repos of a folder. Reading needs no lock; one object may serve many threads."""

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise NotFoundError(f"hub folder {folder}: expected a folder", hint="make it, or name another one")
        self.folder = folder.absolute()
        self.state = self.folder / STATE
        self.blobs = Blobs(self.state / "blobs")
        self.documents = Documents()

    def repos(self, repo_type: str) -> Iterator[Repo]:
        """Every repo of a type that has a commit on main, in order of its folder's name."""
        root = self.state / f"{check_repo_type(repo_type)}s"
        for path in sorted(root.iterdir()) if root.is_dir() else ():
            repo = Repo(self, path)
            if (path / "repo.json").is_file() and MAIN in repo.refs().branches:
                yield repo

    def repo(self, repo_type: str, repo_id: str) -> Repo:
        """One repo; RepoMissing if there is none of exactly this id (a disk may ignore case; ids do not)."""
        repo = Repo(self, self._path(repo_type, repo_id))
        try:
            found = repo.settings.id
        except FileNotFoundError:
            found = ""
        if found != repo_id:
            raise RepoMissing(f"no {repo_type} repo {repo_id}")
        return repo

    def create(self, settings: Settings) -> Repo:
        """A new repo without commits; the one that is there, unchanged, if it exists."""
        repo = Repo(self, self._path(settings.type, settings.id))
        document = repo.path / "repo.json"
        if not document.exists():
            with repo.locked():
                if not document.exists():
                    write_document(document, settings.to_json())
        return self.repo(settings.type, settings.id)

    def _path(self, repo_type: str, repo_id: str) -> Path:
        return self.state / f"{check_repo_type(repo_type)}s" / check_repo_id(repo_id).replace("/", "--")


class Repo:
    """One repo: its settings, refs and commits."""

    def __init__(self, store: RepoStore, path: Path):
        self.store = store
        self.path = path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock under which refs and settings change, across processes; BusyError after a minute."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / ".lock", timeout=SECONDS_TO_WAIT)
        with disk_errors(str(self.path)):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            except Timeout:
                hint = "wait for the other import to end"
                raise BusyError(f"waited {SECONDS_TO_WAIT} s for {self.path / '.lock'}", hint=hint) from None
        try:
            yield
        finally:
            lock.release()

    @property
    def settings(self) -> Settings:
        """What the repo is; FileNotFoundError if it is gone."""
        return self.store.documents.read(self.path / "repo.json", Settings.from_json)

    def change_settings(self, *, private: bool | None = None, gated: bool | None = None) -> None:
        """Set what is given; None leaves a setting as it is. Nothing is written where nothing changes."""

        def changed(old: Settings) -> Settings:
            return replace(
                old, private=old.private if private is None else private, gated=old.gated if gated is None else gated
            )

        if changed(self.settings) != self.settings:
            with self.locked():
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
        """The commit a branch, a tag, `refs/heads/…`, `refs/tags/…` or a full commit id names, else RevisionMissing."""
        if is_commit_id(revision):
            return self.commit(revision)
        refs = self.refs()
        name = check_ref_name(revision.removeprefix("refs/"))
        if name == revision:
            found = refs.branches.get(name) or refs.tags.get(name)
        else:
            kind, _, name = name.partition("/")
            found = {"heads": refs.branches, "tags": refs.tags}.get(kind, {}).get(name)
        if found is None:
            raise RevisionMissing(f"{self.settings.id} has no revision {revision!r}")
        return self.commit(found)

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
            refs = self.refs()
            self._check_branch(refs, branch)
            parent = self.commit(refs.branches.get(branch, refs.branches[MAIN])) if refs.branches else None
            if parent and dict(parent.files) == dict(files):
                commit = parent
            else:
                before, when = parent.id if parent else None, timestamp(date)
                commit = make_commit(before, files, author=author, title=title, message=message, date=when)
                write_document(self.path / "commits" / f"{commit.id}.json", commit.to_json())
            if refs.branches.get(branch) != commit.id:
                self._write_refs(replace(refs, branches={**refs.branches, branch: commit.id}))
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
                self._write_refs(replace(refs, tags={**refs.tags, name: commit.id}))

    def _write_refs(self, refs: Refs) -> None:
        write_document(self.path / "refs.json", refs.to_json())
