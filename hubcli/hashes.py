"""Hashes: the sha256 of a file, read once a process as long as its size and time stay; and what git calls some bytes."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path


def sha256_of(file: Path) -> str:
    """Of its bytes, in hex; kept by path, size and time of change.

    Raises:
        OSError: it can't be read.
    """
    state = file.stat()
    return _read(str(file.resolve()), state.st_size, state.st_mtime_ns)


def git_blob(data: bytes) -> str:
    """The SHA-1 by which git, and a hub's listing, calls the content of a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@lru_cache(maxsize=64)
def _read(path: str, size: int, mtime_ns: int) -> str:
    del size, mtime_ns
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
