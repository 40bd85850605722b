"""The sha256 of a file, read once a process as long as its size and time stay."""

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


@lru_cache(maxsize=64)
def _read(path: str, size: int, mtime_ns: int) -> str:
    del size, mtime_ns
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
