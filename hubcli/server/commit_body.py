"""The body of a commit: a header, then one operation a line, as the Hugging Face client sends them."""

from __future__ import annotations

import base64
import binascii
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from hubcli.server.bodies import known, text_of
from hubcli.server.changes import Change, Drop, Put
from hubcli.server.faults import BodyFault, TooLarge
from hubcli.server.limits import Limits
from hubcli.server.names import check_path, is_commit_id
from hubcli.server.ndjson import Lines
from hubcli.server.objects import FileEntry, file_entry, lfs_entry
from hubcli.server.repos import RepoStore
from hubcli.server.uploads import Incoming

MAX_OPERATIONS: Final = 25_000
MAX_TITLE, MAX_TEXT = 1000, 64 * 1024


@dataclass(frozen=True, slots=True)
class Header:
    """What the commit says of itself; `parent` is the commit it must come after, if it says so."""

    title: str
    description: str
    parent: str | None


class CommitBody:
    """Takes a commit's body in: `feed`, then `end`; then `header` and `changes`. `close` drops what was not kept."""

    def __init__(self, store: RepoStore, limits: Limits, room: int):
        self.header: Header | None = None
        self._store, self._limits, self._room, self._taken = store, limits, room, 0
        self._files = ExitStack()
        self._operations: list[Change | tuple[str, Incoming]] = []
        self._lines = Lines(self._receive, self._on_line)
        self.feed, self.end = self._lines.feed, self._lines.end

    def close(self) -> None:
        """Drop every file that is not a blob by now."""
        self._files.close()

    def changes(self) -> list[Change]:
        """The changes in the order they came; the files in them are no blobs yet."""
        return [one if not isinstance(one, tuple) else Put(one[0], _entry(*one)) for one in self._operations]

    def keep(self) -> None:
        """Make the files blobs, and make sure of those that are there."""
        for one in self._operations:
            if isinstance(one, tuple):
                one[1].keep()
            elif isinstance(one, Put) and not self._store.blobs.claim(one.entry.sha256, one.entry.size):
                raise _no_object(one.path, one.entry.sha256)

    def _receive(self) -> Incoming:
        # its path comes after its content
        what = f"file {len(self._operations) + 1} of the commit"
        return self._files.enter_context(Incoming(self._store, what, min(self._limits.max_file, self._left())))

    def _left(self) -> int:
        if self._taken > self._room:
            raise TooLarge(f"commit: expected at most {self._room} more bytes in this repo, found more")
        return self._room - self._taken

    def _on_line(self, line: Any, file: Incoming | None) -> None:
        fields = known(line, "commit line", ("key", "value"))
        key, value = text_of(fields, "key", "commit line"), fields.get("value")
        if self.header is None:
            if key != "header" or file is not None:
                raise BodyFault(f"commit: expected a header first, found {key[:40]!r}")
            self.header = _header(value)
            return
        if len(self._operations) == MAX_OPERATIONS:
            raise BodyFault(f"commit: expected at most {MAX_OPERATIONS} operations; make several commits")
        if key == "file":
            self._operations.append(self._file(value, file))
        elif file is not None:
            raise BodyFault(f"commit: {key[:40]!r} with a text of more than 256 KiB")
        elif key == "lfsFile":
            self._operations.append(self._lfs_file(value))
        elif key in ("deletedFile", "deletedFolder"):
            path = text_of(known(value, key, ("path",)), "path", key)
            folder = key == "deletedFolder"
            self._operations.append(Drop(check_path(path.rstrip("/") if folder else path), folder))
        else:
            raise BodyFault(f"commit: expected header, file, lfsFile, deletedFile or deletedFolder, found {key[:40]!r}")

    def _file(self, value: Any, file: Incoming | None) -> tuple[str, Incoming]:
        fields = known(value, "file", ("content", "path", "encoding"))
        path, content = check_path(text_of(fields, "path", "file")), text_of(fields, "content", "file")
        if fields.get("encoding", "base64") != "base64":
            raise BodyFault(f"{path}: expected encoding base64")
        if file is not None and content != self._lines.stands_for:
            raise BodyFault(f"{path}: a text of more than 256 KiB that is not the content")
        if file is None:
            file = self._receive()
            file.path = path
            try:
                file.write(base64.b64decode(content, validate=True))
            except binascii.Error:
                raise BodyFault(f"{path}: expected base64") from None
        file.close()
        self._taken += file.size
        self._limits.check_file(path, file.size)
        return path, file

    def _lfs_file(self, value: Any) -> Put:
        fields = known(value, "lfsFile", ("path", "algo", "oid", "size"))
        path, oid = check_path(text_of(fields, "path", "lfsFile")), text_of(fields, "oid", "lfsFile")
        if fields.get("algo", "sha256") != "sha256" or not is_sha256(oid):
            raise BodyFault(f"{path}: expected algo sha256 and an oid of 64 hex digits")
        try:
            size = self._store.blobs.path(oid).stat().st_size
        except FileNotFoundError:
            raise _no_object(path, oid) from None
        if fields.get("size", size) != size:
            raise BodyFault(f"{path}: expected the {size} bytes of LFS object {oid}, found {fields['size']}")
        return Put(path, lfs_entry(size, oid))


def _entry(path: str, file: Incoming) -> FileEntry:
    return file_entry(path, file.size, file.sha256, file.git_oid())


def _no_object(path: str, oid: str) -> BodyFault:
    return BodyFault(f"{path}: this hub has no LFS object {oid}; upload it first")


def is_sha256(text: str) -> bool:
    """True for 64 lower-case hex digits."""
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _header(value: Any) -> Header:
    fields = known(value, "header", ("summary", "description", "parentCommit"))
    title, text = text_of(fields, "summary", "header"), text_of(fields, "description", "header", "")
    parent = text_of(fields, "parentCommit", "header", "") or None
    if not 0 < len(title) <= MAX_TITLE or len(text) > MAX_TEXT:
        raise BodyFault(f"header: expected a summary of 1 to {MAX_TITLE} characters, a description up to {MAX_TEXT}")
    if parent is not None and not is_commit_id(parent):
        raise BodyFault("header: parentCommit: expected 40 hex digits")
    return Header(title, text, parent)
