"""Taking away what nothing uses: blobs, leftovers of dead processes, old parts of downloads. No link is ever followed."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hubcli.store.files import remove_tree, tampered
from hubcli.store.layout import SHA256, Layout, owner_is_gone

GRACE_SECONDS = 3600.0
PART_SECONDS = 7 * 24 * 3600.0


class Pruned(NamedTuple):
    """What `prune` removed, or would with `dry_run`: blobs and other leftovers, and the bytes that this frees."""

    blobs: tuple[str, ...]
    leftovers: tuple[str, ...]
    freed: int
    dry_run: bool


class Finding(NamedTuple):
    """Something `doctor` found: where, what, and whether it was put right."""

    path: str
    what: str
    fixed: bool = False


def plain_entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder, none where it is missing."""
    try:
        with os.scandir(folder) as entries:
            yield from sorted(entries, key=lambda e: e.name)
    except FileNotFoundError:
        return


def blobs(layout: Layout) -> Iterator[tuple[Path, os.stat_result]]:
    """Every blob with its status.

    Raises:
        StoreTamperedError: a link, or something else that hubcli did not put there.
    """
    for shard in plain_entries(layout.blobs):
        if shard.name == "CACHEDIR.TAG":
            continue
        if not shard.is_dir(follow_symlinks=False):
            raise tampered(Path(shard.path), "a link" if shard.is_symlink() else "a file")
        for entry in plain_entries(Path(shard.path)):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # pruned by another process
            if not stat.S_ISREG(status.st_mode) or not SHA256.match(entry.name) or entry.name[:2] != shard.name:
                raise tampered(Path(entry.path), "a link" if entry.is_symlink() else "no blob")
            yield Path(entry.path), status


def unused(layout: Layout, used: set[str], grace: float) -> list[tuple[Path, os.stat_result]]:
    """Blobs that no record names. One with further links may belong to an install that runs: it is left for `grace` seconds."""
    now = time.time()
    return [
        (path, status)
        for path, status in blobs(layout)
        if path.name not in used and (status.st_nlink == 1 or now - max(status.st_mtime, status.st_ctime) >= grace)
    ]


def leftovers(layout: Layout, grace: float) -> list[Path]:
    """What dead processes left in tmp, what is too old to be anyone's work, and parts nobody came back for."""
    now = time.time()
    found = []
    for entry in plain_entries(layout.tmp):
        gone = owner_is_gone(Path(entry.path))
        with contextlib.suppress(FileNotFoundError):
            age = now - entry.stat(follow_symlinks=False).st_mtime
            if entry.name != "CACHEDIR.TAG" and (gone or (gone is None and age >= max(grace, GRACE_SECONDS))):
                found.append(Path(entry.path))
    for entry in plain_entries(layout.partial):
        with contextlib.suppress(FileNotFoundError):
            old = now - entry.stat(follow_symlinks=False).st_mtime >= PART_SECONDS
            if entry.is_symlink() or (entry.name != "CACHEDIR.TAG" and old):
                found.append(Path(entry.path))
    return found


def converted(layout: Layout) -> list[Path]:
    """What pickled weights of local folders, and bases of packages, became: it is made again where it is needed."""
    now, found = time.time(), []
    for entry in plain_entries(layout.converted):
        with contextlib.suppress(FileNotFoundError):
            age = now - entry.stat(follow_symlinks=False).st_mtime
            being_made = entry.name.endswith(".part") or entry.name.startswith(".")
            if not being_made or age >= GRACE_SECONDS:
                found.append(Path(entry.path))
    return found


def bytes_under(path: Path, seen: set[tuple[int, int]]) -> int:
    """Bytes of files under a path, each file once however many links it has; `seen` is filled on the way."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0
    if stat.S_ISDIR(status.st_mode):
        return sum(bytes_under(Path(entry.path), seen) for entry in plain_entries(path))
    key = (status.st_dev, status.st_ino)
    if key in seen:
        return 0
    seen.add(key)
    return status.st_size


def remove(path: Path) -> None:
    """Remove a leftover or a blob; gone already is fine."""
    remove_tree(path)
