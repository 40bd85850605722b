"""Bytes on their way into the store: counted and hashed as they come, refused beyond a limit, kept whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hubcli.server.crash import reach
from hubcli.server.disk import CHUNK, disk_errors, sync_folder
from hubcli.server.faults import TooLarge
from hubcli.server.repos import RepoStore

_OLD_SECONDS: Final = 3600


class Incoming:
    """A file being received. `with` drops it unless `keep` made it a blob.

    `close` once all of it has come: many may wait to be kept, more than a process may have files open.
    """

    def __init__(self, store: RepoStore, path: str, limit: int):
        self.path, self.size = path, 0
        self._blobs, self._limit, self._sha256 = store.blobs, limit, hashlib.sha256()
        folder = uploads(store)
        with disk_errors(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=folder)
        self._file, self._name = os.fdopen(handle, "wb"), Path(name)

    def write(self, data: bytes) -> None:
        """Take more bytes in; TooLarge, with nothing of them written, if they go beyond the limit."""
        if self.size + len(data) > self._limit:
            raise TooLarge(f"{self.path}: expected at most {self._limit} bytes, found more")
        before, self.size = self.size, self.size + len(data)
        self._sha256.update(data)
        with disk_errors(str(self._name)):
            self._file.write(data)
        if before // CHUNK != self.size // CHUNK:
            reach("each-mib")

    @property
    def sha256(self) -> str:
        """Of what has come so far, in hex."""
        return self._sha256.hexdigest()

    def close(self) -> None:
        """All of it has come."""
        with disk_errors(str(self._name)):
            self._file.close()

    def git_oid(self) -> str:
        """Git's SHA-1 of the whole file; it needs the size first, so the file is read once more."""
        self.close()
        oid = hashlib.sha1(f"blob {self.size}\0".encode(), usedforsecurity=False)
        with self._name.open("rb") as file:
            while chunk := file.read(CHUNK):
                oid.update(chunk)
        return oid.hexdigest()

    def keep(self) -> None:
        """Make it a blob: synced, then renamed into place."""
        blob = self._blobs.path(self.sha256)
        self.close()
        with disk_errors(str(blob)):
            blob.parent.mkdir(parents=True, exist_ok=True)
            with self._name.open("r+b") as file:
                os.fsync(file.fileno())
            reach("before-blob")
            if self._blobs.claim(self.sha256, self.size):
                self.drop()
                return
            self._name.chmod(0o444)
            self._name.replace(blob)
            sync_folder(blob.parent)
        reach("after-blob")

    def drop(self) -> None:
        """Forget it; what was kept stays."""
        self._file.close()
        self._name.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()


def uploads(store: RepoStore) -> Path:
    """Where files lie while they are received."""
    return store.state / "uploads"


def trash(store: RepoStore) -> Path:
    """Where a deleted repo lies until it is gone."""
    return store.state / "trash"


def tidy(store: RepoStore) -> None:
    """Remove what a killed server left: received halves and temporary files an hour old, and deleted repos."""
    import shutil

    old = time.time() - _OLD_SECONDS
    for pattern in ("uploads/*", "blobs/.tmp-*", "*s/*/.tmp-*", "*s/*/*/.tmp-*", "moved/*/.tmp-*"):
        for path in store.state.glob(pattern):
            with contextlib.suppress(OSError):  # another server tidies too, or the folder can't be written
                if path.is_file() and path.stat().st_mtime < old:
                    path.unlink()
    for path in trash(store).glob("*"):
        shutil.rmtree(path, ignore_errors=True)
