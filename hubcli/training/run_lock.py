"""One training at a time in a run's folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from hubcli.errors import BusyError, DiskError

LOCK = ".lock"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder, made where it is not there; a kill lets go of it. A system without such locks is trusted.

    Raises:
        BusyError: another training is at work there. DiskError: it can't be written to.
    """
    path, new = folder / LOCK, [made for made in (folder, *folder.parents) if not made.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise DiskError(f"can't write {folder}", cause=error.strerror) from None
    with file:
        if _busy(file, path):
            raise BusyError(f"{folder}: another training is at work in it", hint="wait for it, or give another --out")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            for made in new:  # nothing was begun
                with contextlib.suppress(OSError):
                    made.rmdir()


def _busy(file: IO[bytes], path: Path) -> bool:
    """Whether somebody else holds the lock, or held it until now and took it away."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError as error:
        return isinstance(error, BlockingIOError)  # any other: a file system without locks
