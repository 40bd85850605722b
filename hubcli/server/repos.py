"""The storage: repos of commits that never change, in a folder. Knows nothing of HTTP.

    FOLDER/.hub/blobs/<sha256>                        the bytes of every file of every commit, once
    FOLDER/.hub/{models,datasets}/<org>--<name>/      one repo (`--` can't stand in a repo id)
        repo.json                                     id, type, private, gated, extra tags, created, origin
        refs.json                                     branches and tags: name -> commit id
        commits/<40 hex>.json                         parent, date, author, title, message, files
        discussions/<number>.json                     a discussion; of a pull request also its newest commit
        contents.json                                 derived: the contents of all commits, see `contents`
        pending/<sha256>                              its size: an LFS object that was sent and no commit names yet
    FOLDER/.hub/moved/{models,datasets}/<org>--<name>.json    the id that the repo which was moved away from this one has now
    FOLDER/.hub/locks/{models,datasets}/<org>--<name> held while the repo of this id comes, changes or goes
    FOLDER/.hub/locks/moved                           held while it changes where old ids lead
    FOLDER/.hub/uploads/, trash/, aside/              bytes on their way in; deleted repos and blobs on their way out

Everything is written to a temporary file, synced, and renamed into place, in the order blobs, commit, refs: whoever
reads sees a whole commit or none, and a crash leaves at most a blob or a commit that no ref names. Every document
carries `v`, its format. A commit's id is the SHA-1 of its own content, checked when it is read. Here is what reads, and
what an import needs; `writing`, `pulls` and `whole` change more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hubcli.errors import IntegrityError, NotFoundError
from hubcli.server.disk import Blobs, Documents, held, write_document
from hubcli.server.faults import RepoMissing
from hubcli.server.names import check_repo_id, check_repo_type
from hubcli.server.objects import FORMAT_V, Settings, check_format
from hubcli.server.repo import Repo

STATE = ".hub"
_MOST_MOVES = 16  # a repo moved more often than this is found under its newest ids alone


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
        """Every repo of a type, in order of its folder's name; also one that is being made, is going or is damaged."""
        root = self.state / f"{check_repo_type(repo_type)}s"
        for path in sorted(root.iterdir()) if root.is_dir() else ():
            if path.is_dir():
                yield Repo(self, path)

    def repo(self, repo_type: str, repo_id: str) -> Repo:
        """One repo; RepoMissing if there is none of exactly this id (a disk may ignore case; ids do not).

        The id that a moved repo had before leads to it as long as no other repo takes it.
        """
        asked = repo_id
        for _ in range(_MOST_MOVES):
            repo = Repo(self, self.path_of(repo_type, asked))
            if repo.id == asked:
                return repo
            onward = self._onward(self.moved_path(repo_type, asked))
            if onward is None:
                break
            asked = onward
        raise RepoMissing(f"no {repo_type} repo {repo_id}")

    def create(self, settings: Settings) -> Repo:
        """A new repo without commits; the one that is there, unchanged, if it exists."""
        repo = Repo(self, self.path_of(settings.type, settings.id))
        document = repo.path / "repo.json"
        if not document.exists():
            with repo.locked(new=True):
                if not document.exists():
                    self.claim(settings)
        if repo.id != settings.id:
            raise RepoMissing(f"no {settings.type} repo {settings.id}, and the disk has {repo.id} in its place")
        return repo

    def claim(self, settings: Settings) -> None:
        """Let a repo be there, under the lock the caller holds; no move leads to its id or from it any more."""
        self.lead_past(settings.type, settings.id)
        write_document(self.path_of(settings.type, settings.id) / "repo.json", settings.to_json())
        self.lead(settings.type, settings.id, None)

    def lead(self, repo_type: str, repo_id: str, to: str | None) -> None:
        """Let an id lead to another one, or nowhere, under its repo's lock, which the caller holds."""
        path = self.moved_path(repo_type, repo_id)
        # nobody else makes it, so there is nothing to wait for
        if to is not None or path.exists():
            with self._moves():
                _lead(path, to)

    def lead_past(self, repo_type: str, repo_id: str) -> None:
        """Old ids that led to this one, under which no repo is, lead where it leads itself, or nowhere."""
        with self._moves():
            onward = self._onward(self.moved_path(repo_type, repo_id))
            for path in self.moved_path(repo_type, repo_id).parent.glob("*.json"):
                try:
                    leads_here = path.is_file() and self._onward(path) == repo_id
                except IntegrityError:  # one damaged document is told to who asks for its id
                    continue
                if leads_here:
                    back = onward is not None and self.moved_path(repo_type, onward) == path
                    _lead(path, None if back else onward)

    def _moves(self) -> AbstractContextManager[None]:
        """Hold where old ids lead: whoever takes an id changes that of others, whose repos come and go meanwhile."""
        return held(self.state / "locks" / "moved")

    def _onward(self, path: Path) -> str | None:
        try:
            return self.documents.read(path, _moved_to)
        except FileNotFoundError:
            return None

    def path_of(self, repo_type: str, repo_id: str) -> Path:
        """Where a repo of this id lies, or would lie."""
        return self.state / f"{check_repo_type(repo_type)}s" / check_repo_id(repo_id).replace("/", "--")

    def lock_path(self, path: Path) -> Path:
        """The file that is locked while the repo that lies here, or would, changes."""
        return self.state / "locks" / path.relative_to(self.state)

    def moved_path(self, repo_type: str, repo_id: str) -> Path:
        """Where it is kept which id a repo has that was moved away from this one: apart from the repos, whose names it has."""
        path = self.path_of(repo_type, repo_id)
        return self.state / "moved" / path.parent.name / f"{path.name}.json"


def _lead(path: Path, to: str | None) -> None:
    if to is None:
        path.unlink(missing_ok=True)
    else:
        write_document(path, {"v": FORMAT_V, "to": to})


def _moved_to(document: dict[str, Any]) -> str:
    check_format(document, "moved repo")
    return check_repo_id(document["to"])
