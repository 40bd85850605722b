"""The bytes of a draft's files on their way to a hub: those that were checked, or none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from hubcli.errors import ContentError, DiskError
from hubcli.publishing.draft import DraftFile

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

HELD = 8 << 20  # bytes: a file up to this size is read once, and sent from memory
_AGAIN = "leave the folder as it is while it is published; the same command again checks what is there now"


def content(file: DraftFile) -> bytes:
    """The bytes of a file of a draft.

    Raises:
        ContentError: the file changed since it was checked, or is gone. DiskError: it can't be read.
    """
    if file.source is None:
        return file.data or b""
    try:
        raw = file.source.read_bytes()
    except OSError as error:
        raise _unread(file.source, error) from None
    _check(file, len(raw), hashlib.sha256(raw).hexdigest())
    return raw


def check_unchanged(files: Iterable[DraftFile]) -> None:
    """Compare what lies on the disk with what was checked.

    Raises:
        ContentError, DiskError: as `content`.
    """
    for file in files:
        if file.source is None:
            continue
        try:
            with file.source.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
                size = stream.tell()
        except OSError as error:
            raise _unread(file.source, error) from None
        _check(file, size, found)


def addition(file: DraftFile) -> CommitOperationAdd:
    """A file as the client commits it. A large one is read by the client: what it found is what is compared here.

    Raises:
        ContentError, DiskError: as `content`.
    """
    from huggingface_hub import CommitOperationAdd

    if file.source is None or file.size <= HELD:
        return CommitOperationAdd(file.path, content(file))
    try:
        made = CommitOperationAdd(file.path, str(file.source))
    except OSError as error:
        raise _unread(file.source, error) from None
    except ValueError:  # no file there
        raise _unread(file.source, FileNotFoundError()) from None
    _check(file, made.upload_info.size, made.upload_info.sha256.hex())
    return made


def _check(file: DraftFile, size: int, sha256: str) -> None:
    if (size, sha256) != (file.size, file.sha256):
        expected, found = f"{file.size} bytes with sha256 {file.sha256}", f"{size} bytes with sha256 {sha256}"
        message = f"{file.source} changed while it was published: expected {expected}, found {found}"
        raise ContentError(message, hint=_AGAIN, id="E_HASH" if size == file.size else "E_SIZE")


def _unread(source: Path, error: OSError) -> ContentError | DiskError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ContentError(f"{source} is gone: it was there when it was checked for publishing", hint=_AGAIN)
    return DiskError(f"can't read {source}", cause=error.strerror)
