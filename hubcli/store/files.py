"""Files of the store: opened without following links, written durably, with errors of the disk in words."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from hubcli.errors import DiskError, StoreTamperedError

CHUNK = 1 << 20
_NO_ROOM = {errno.ENOSPC, errno.EFBIG} | {getattr(errno, "EDQUOT", errno.ENOSPC)}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_LINKS = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EACCES}


def open_plain(path: Path) -> BinaryIO:
    """Open a regular file for reading without following a link at its end.

    Raises:
        StoreTamperedError: it is a link, a folder, a device or a pipe.
        FileNotFoundError: it is not there.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if not hasattr(os, "O_NOFOLLOW") and path.is_symlink():
            raise tampered(path, "a link")
        handle = os.open(path, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, getattr(errno, "EMLINK", -1)):
            raise tampered(path, "a link") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise tampered(path, "no regular file")
    return os.fdopen(handle, "rb")


def tampered(path: Path, found: str) -> StoreTamperedError:
    """The error for something in the store that hubcli did not put there."""
    return StoreTamperedError(
        f"{path}: expected a plain file or folder of the store, found {found}",
        hint="look at what put it there, remove it, then run 'hubcli verify --repair'",
    )


def check_plain_folders(root: Path, folder: Path) -> None:
    """Refuse a link among the folders from `root` (excluded) down to `folder`; missing ones are fine.

    Raises:
        StoreTamperedError: one of them is a link or no folder.
    """
    current = root
    for part in folder.relative_to(root).parts:
        current = current / part
        try:
            mode = current.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(mode):
            raise tampered(current, "a link" if stat.S_ISLNK(mode) else "no folder")


def digest(path: Path, on_bytes: Callable[[int], None] | None = None) -> tuple[int, str]:
    """Size in bytes and sha256 in hex of a plain file, read in pieces."""
    total, sha = 0, hashlib.sha256()
    with open_plain(path) as file:
        while data := file.read(CHUNK):
            total += len(data)
            sha.update(data)
            if on_bytes:
                on_bytes(len(data))
    return total, sha.hexdigest()


def fsync_file(file: BinaryIO) -> None:
    """Push a file's bytes to the disk."""
    file.flush()
    os.fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Push a folder's names to the disk, where the platform can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def link_or_copy(source: Path, target: Path) -> None:
    """Give `target` the bytes of `source`: a hard link, or a durable copy where links are not supported.

    Raises:
        FileExistsError: `target` is there.
    """
    try:
        os.link(source, target, follow_symlinks=False)
        return
    except FileExistsError:
        raise
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LINKS:
            raise
    import shutil  # brings in every compressor there is, which few runs need

    with open_plain(source) as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, CHUNK)
        fsync_file(writer)
    target.chmod(0o444)


def remove_tree(folder: Path) -> None:
    """Remove a folder or file, never following a link; what vanishes meanwhile is fine."""
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        shutil.rmtree(folder)


def free_bytes(path: Path) -> int | None:
    """Free bytes of the disk that holds `path` or its nearest parent that exists; None where that is not known."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        if hasattr(os, "statvfs"):
            status = os.statvfs(path)
            return status.f_bavail * status.f_frsize
        import shutil

        return shutil.disk_usage(path).free
    except OSError:
        return None


def check_space(path: Path, needed: int) -> None:
    """Refuse before the first byte is written when the disk can't hold `needed` bytes.

    Raises:
        DiskError: with the bytes needed and free.
    """
    free = free_bytes(path)
    if free is not None and free < needed:
        raise _no_room(path, needed, free, "not enough room on the disk")


def _no_room(path: Path, needed: int | None, free: int | None, why: str) -> DiskError:
    wanted = f"{needed:,} bytes needed" if needed is not None else "bytes needed unknown"
    have = f"{free:,} free" if free is not None else "free bytes unknown"
    hint = "free some room ('hubcli cache prune'), or set HUBCLI_HOME to another disk"
    return DiskError(f"{path}: {why}: {wanted}, {have}", hint=hint)


@contextlib.contextmanager
def disk_errors(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn errors of the disk at `path` into DiskError; `needed` is how many bytes were to be written in all."""
    try:
        yield
    except OSError as error:
        where = Path(error.filename) if isinstance(error.filename, str) else path
        if error.errno in _NO_ROOM:
            raise _no_room(where, needed, free_bytes(path), error.strerror or "no room") from error
        if error.errno in _NOT_ALLOWED:
            hint = "make the store writable, or set HUBCLI_HOME to another folder"
            raise DiskError(f"{where}: can't write there ({error.strerror})", hint=hint) from error
        raise DiskError(f"{where}: {error.strerror or error}") from error
