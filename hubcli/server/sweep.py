"""Removing bytes that no commit names: objects sent and never committed, and the files of deleted repos.

Whoever is about to name a blob in a commit claims it first, which makes it young (`Blobs.claim`); only old ones go. One is
moved aside, looked at again, and put back where it was claimed in between: a claim that comes later finds it missing,
and the bytes are sent again. Nothing goes where any commit can't be read, or where repos come and go meanwhile.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from hubcli.server.contents import UNNAMED_SECONDS, contents, tidy_marks
from hubcli.server.names import REPO_TYPES
from hubcli.server.repo import Repo
from hubcli.server.repos import RepoStore
from hubcli.server.uploads import trash


def sweep(store: RepoStore) -> int:
    """Remove the blobs that nobody names and that are a day old; how many. IntegrityError if a commit is damaged."""
    _put_back(store)
    before, folders = time.time() - UNNAMED_SECONDS, _folders(store)
    blobs = list(store.blobs.folder.iterdir()) if store.blobs.folder.is_dir() else []
    old = {path.name for path in blobs if not path.name.startswith(".") and _age_of(path) < before}
    for folder in folders:
        tidy_marks(Repo(store, folder))
        if old:
            old -= contents(Repo(store, folder)).keys()
    # a repo that was moved in between may be in neither list
    if not old or _folders(store) != folders:
        return 0
    return sum(_removed(store, name, before) for name in old)


def _folders(store: RepoStore) -> dict[Path, int]:
    """Every repo's folder and its inode, also of one that is still being made."""
    found: dict[Path, int] = {}
    for repo_type in REPO_TYPES:
        root = store.state / f"{repo_type}s"
        for path in root.iterdir() if root.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):
                if path.is_dir():
                    found[path] = path.stat().st_ino
    return found


def _age_of(path: Path) -> float:
    try:
        status = path.stat()
    except OSError:
        return time.time()
    # a copy from a backup has the old time of change, and is not old here
    return max(status.st_mtime, status.st_ctime)


def _removed(store: RepoStore, name: str, before: float) -> bool:
    blob, aside = store.blobs.path(name), _aside(store) / name
    with contextlib.suppress(OSError):  # another server sweeps too, or the folder can't be written
        aside.parent.mkdir(parents=True, exist_ok=True)
        blob.rename(aside)
        if aside.stat().st_mtime < before:
            aside.unlink()
            return True
        aside.rename(blob)
    return False


def _put_back(store: RepoStore) -> None:
    """What a server that was killed while it swept had moved aside."""
    folder = _aside(store)
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            path.rename(store.blobs.path(path.name))


def _aside(store: RepoStore) -> Path:
    return trash(store).with_name("aside")
