"""Reading and writing the hub's folder: atomic writes, cached documents, content-addressed blobs."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from hubcli.errors import BusyError, ContentError, DiskError, IntegrityError, PolicyError

T = TypeVar("T")
CHUNK = 1 << 20
_CACHED_BYTES = 32 << 20  # of JSON; parsed, a document takes about twice as many


@contextlib.contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn an OSError of writing into a DiskError that names what was being written."""
    try:
        yield
    except OSError as error:
        hint = "the folder served must be writable while repos are imported" if error.errno in _DENIED else None
        raise DiskError(f"can't write {what}: {error.strerror or error}", hint=hint) from error


_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextlib.contextmanager
def atomic_file(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A temporary file beside `path` that takes its place, synced, when the block ends well; else it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
        sync_folder(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the system can sync a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


SECONDS_TO_WAIT = 60


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock, across processes; its file is never removed. BusyError after a minute."""
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=SECONDS_TO_WAIT)
    with disk_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise BusyError(f"waited {SECONDS_TO_WAIT} s for {path}", hint="wait for the other change to end") from None
    try:
        yield
    finally:
        lock.release()


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write JSON atomically."""
    with disk_errors(str(path)), atomic_file(path) as file:
        file.write(json.dumps(document, indent=1, ensure_ascii=True).encode() + b"\n")


class Documents:
    """Parsed JSON documents, kept until the file on disk is another one. Safe to use from several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Path, tuple[tuple[int, int, int], Any]] = OrderedDict()
        self._bytes = 0
        self._guard = threading.Lock()

    def read(self, path: Path, parse: Callable[[dict[str, Any]], T]) -> T:
        """`parse` of the document at `path`; FileNotFoundError if there is none, IntegrityError if it is damaged."""
        status = path.stat()
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        with self._guard:
            kept = self._kept.get(path)
            if kept and kept[0] == seen:
                self._kept.move_to_end(path)
                return kept[1]  # type: ignore[no-any-return]
        value = _parse(path, parse)
        with self._guard:
            if old := self._kept.pop(path, None):
                self._bytes -= _weight(old[0])
            self._kept[path] = (seen, value)
            self._bytes += _weight(seen)
            while self._bytes > _CACHED_BYTES and len(self._kept) > 1:
                self._bytes -= _weight(self._kept.popitem(last=False)[1][0])
        return value


def _weight(seen: tuple[int, int, int]) -> int:
    return seen[2] + 2048  # what the smallest takes


def _parse(path: Path, parse: Callable[[dict[str, Any]], T]) -> T:
    try:
        return parse(json.loads(path.read_bytes()))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise IntegrityError(f"{path}: not a hub document ({error!r})") from error


def open_regular(path: Path) -> BinaryIO:
    """Open a file that is a regular one and no link, without ever waiting on a pipe; PolicyError otherwise."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise PolicyError(f"{path}: expected a regular file") from error
        raise DiskError(f"can't read {path}: {error.strerror or error}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise PolicyError(f"{path}: expected a regular file")
    return os.fdopen(handle, "rb")


class Blobs:
    """The bytes of all repos, each kept once under its sha256; written once, never changed."""

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, sha256: str) -> Path:
        """Where the bytes with this hash lie, or would lie."""
        return self.folder / sha256

    def claim(self, sha256: str, size: int) -> bool:
        """Whether these bytes are here, to be named in a commit within a day: until then nobody removes them.

        False also where this process may not say so: then the bytes have to be written again.
        """
        path = self.path(sha256)
        try:
            if not path.is_file() or path.stat().st_size != size:
                return False
            os.utime(path)
        except OSError:
            return False
        return True

    def head(self, sha256: str, limit: int) -> bytes:
        """The first `limit` bytes of a blob; IntegrityError if it is gone."""
        try:
            with self.path(sha256).open("rb") as file:
                return file.read(limit)
        except FileNotFoundError:
            raise IntegrityError(f"blob {sha256} is missing from this hub") from None

    def git_oid(self, sha256: str) -> str:
        """Git's SHA-1 of a blob's bytes; IntegrityError if it is gone."""
        try:
            with self.path(sha256).open("rb") as file:
                return _digest(file, self.path(sha256))[2]
        except FileNotFoundError:
            raise IntegrityError(f"blob {sha256} is missing from this hub") from None

    def add(self, source: Path) -> tuple[int, str, str]:
        """Take in a file. Returns size, sha256 and git's blob oid; ContentError if it changes while it is read."""
        with open_regular(source) as file:
            found = _digest(file, source)
            size, sha256, _ = found
            kept = self.path(sha256)
            if self.claim(sha256, size):
                return found
            file.seek(0)
            with disk_errors(str(kept)), atomic_file(kept, mode=0o444) as copy:
                if _digest(file, source, copy) != found:
                    raise _changed(source)
            return found


def _changed(source: Path) -> ContentError:
    return ContentError(f"{source} changed while it was read", hint="try again when nothing writes to it")


def _digest(file: BinaryIO, source: Path, copy: BinaryIO | None = None) -> tuple[int, str, str]:
    size = os.fstat(file.fileno()).st_size
    sha256 = hashlib.sha256()
    oid = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    count = 0
    while chunk := file.read(CHUNK):
        count += len(chunk)
        sha256.update(chunk)
        oid.update(chunk)
        if copy is not None:
            copy.write(chunk)
    if count != size:
        raise _changed(source)
    return size, sha256.hexdigest(), oid.hexdigest()
