"""What a repo holds: each content of its commits once, and what was sent for it by LFS and no commit names yet.

The contents of all commits are kept in `contents.json`, with the commits it was made of, so that a push need not read
every commit again. It is derived: one that is gone, damaged or of other commits is made anew.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hubcli.errors import DiskError, IntegrityError
from hubcli.server.disk import disk_errors, write_document
from hubcli.server.objects import FORMAT_V, check_format
from hubcli.server.repo import Repo

UPLOAD_SECONDS: Final = 3600  # an upload address is good for so long
UNNAMED_SECONDS: Final = 24 * 3600  # what no commit names by then is removed
_BEHIND: Final = 16  # so many commits are read anew rather than written down each time


@dataclass(frozen=True, slots=True)
class _Index:
    """sha256 → bytes of all files of these commits."""

    commits: frozenset[str] = frozenset()
    sizes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> _Index:
        check_format(document, "contents")
        return cls(frozenset(document["commits"]), dict(document["sizes"]))


def contents(repo: Repo) -> dict[str, int]:
    """sha256 → bytes of every file of every commit of a repo."""
    there = {path.stem for path in (repo.path / "commits").glob("*.json") if not path.name.startswith(".")}
    kept = _kept(repo)
    if not kept.commits <= there:
        kept = _Index()
    sizes, new = dict(kept.sizes), there - kept.commits
    for commit_id in new:
        sizes |= {entry.sha256: entry.size for entry in repo.commit(commit_id).files.values()}
    if len(new) >= _BEHIND and repo.path.is_dir():
        with contextlib.suppress(DiskError):  # read once more next time
            document = {"v": FORMAT_V, "commits": sorted(there), "sizes": sizes}
            write_document(repo.path / "contents.json", document)
    return sizes


def _kept(repo: Repo) -> _Index:
    try:
        return repo.store.documents.read(repo.path / "contents.json", _Index.from_json)
    except (FileNotFoundError, IntegrityError):
        return _Index()


def pending(repo: Repo, named: Mapping[str, int]) -> dict[str, int]:
    """sha256 → bytes of the LFS objects sent for a repo that are not in `named`, the contents of its commits.

    An object counts from the start of its upload until it would be removed.
    """
    found: dict[str, int] = {}
    for mark in _marks(repo):
        with contextlib.suppress(OSError, ValueError):  # one that ends meanwhile
            age = time.time() - mark.stat().st_mtime
            if mark.name in named:
                mark.unlink()
            elif age < UPLOAD_SECONDS or (age < UNNAMED_SECONDS and repo.store.blobs.path(mark.name).is_file()):
                found[mark.name] = int(mark.read_text())
    return found


def mark_pending(repo: Repo, sha256: str, size: int) -> None:
    """Let an object count from now on."""
    mark = repo.path / "pending" / sha256
    with disk_errors(str(mark)):
        mark.parent.mkdir(exist_ok=True)
        mark.write_text(str(size))


def unmark_pending(repo: Repo, sha256: str) -> None:
    """The object did not come; it goes on counting where it was here before."""
    with contextlib.suppress(OSError):
        if not repo.store.blobs.path(sha256).is_file():
            (repo.path / "pending" / sha256).unlink()


def renew_pending(repo: Repo, sha256: str) -> None:
    """An object that was sent before is asked for once more, and stays a day longer."""
    with contextlib.suppress(OSError):
        os.utime(repo.path / "pending" / sha256)


def _marks(repo: Repo) -> list[Path]:
    folder = repo.path / "pending"
    return list(folder.iterdir()) if folder.is_dir() else []


def tidy_marks(repo: Repo) -> None:
    """Remove the marks that count no more."""
    counting = pending(repo, {})
    for mark in _marks(repo):
        if mark.name not in counting:
            with contextlib.suppress(OSError):
                mark.unlink()
