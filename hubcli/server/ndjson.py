"""Reading a commit's NDJSON in pieces, in little memory: the long strings in it are files, and go to disk as they come.

Every line is one JSON object. A string longer than `INLINE` bytes is base64 of a file: it is decoded into an `Incoming`
while it is read, and a word that stands for it takes its place in the line.
"""

from __future__ import annotations

import binascii
import re
import secrets
from collections.abc import Callable
from typing import Any, Final

from hubcli.errors import EntryError
from hubcli.server.faults import BodyFault
from hubcli.server.uploads import Incoming
from hubcli.strict_json import loads

INLINE: Final = 256 * 1024
MAX_LINE: Final = 4 * 1024 * 1024
_IN_STRING, _OUTSIDE = re.compile(rb'["\\]'), re.compile(rb'["\n]')


class Base64:
    """Decodes base64 that comes in pieces of any length into a file; BodyFault for anything that is not base64."""

    def __init__(self, file: Incoming):
        self.file = file
        self._rest, self._ended = b"", False

    def write(self, text: bytes) -> None:
        """The next piece."""
        text = self._rest + text
        whole = len(text) - len(text) % 4
        self._rest = text[whole:]
        if whole:
            self._decode(text[:whole])

    def end(self) -> None:
        """There is no more."""
        if self._rest:
            raise BodyFault(f"{self.file.path}: expected base64 of a whole file, found its end missing")

    def _decode(self, text: bytes) -> None:
        try:
            if self._ended:
                raise binascii.Error
            self.file.write(binascii.a2b_base64(text, strict_mode=True))
        except binascii.Error:
            raise BodyFault(f"{self.file.path}: expected base64") from None
        self._ended = text.endswith(b"=")


class Lines:
    """`feed` the body's bytes, then `end`; `on_line` gets each object and the file of its long string, if it has one.

    `receive` makes the file for a long string; `stands_for` is the word in its place.
    """

    def __init__(self, receive: Callable[[], Incoming], on_line: Callable[[Any, Incoming | None], None]):
        self.stands_for = secrets.token_hex(16)
        self._receive, self._on_line = receive, on_line
        self._line = bytearray()
        self._string = -1  # where in the line the string begins that is being read
        self._escaped = False
        self._long: Base64 | None = None  # of the string that is being read
        self._file: Incoming | None = None  # of this line

    def feed(self, data: bytes) -> None:
        """The next bytes of the body."""
        at = 0
        while at < len(data):
            if self._long is not None:
                at = self._in_long(self._long, data, at)
            elif self._string >= 0:
                at = self._in_string(data, at)
            else:
                at = self._outside(data, at)
            if len(self._line) > MAX_LINE:
                raise BodyFault(f"commit: expected lines of at most {MAX_LINE} bytes beside a file's content")

    def end(self) -> None:
        """The body is complete."""
        if self._string >= 0:
            raise BodyFault("commit: the body ends inside a line")
        self._emit()

    def _in_long(self, long: Base64, data: bytes, at: int) -> int:
        close = data.find(b'"', at)
        end = close if close >= 0 else len(data)
        long.write(data[at:end])
        if close >= 0:
            long.end()
            self._long, self._string = None, -1
            self._line += b'"'
        return end + (close >= 0)

    def _in_string(self, data: bytes, at: int) -> int:
        if self._escaped:
            self._line += data[at : at + 1]
            self._escaped = False
            return at + 1
        found = _IN_STRING.search(data, at)
        end = found.end() if found else len(data)
        self._line += data[at:end]
        if found and found[0] == b'"':
            self._string = -1
        elif found:
            self._escaped = True
        elif len(self._line) - self._string > INLINE:
            self._start_long()
        return end

    def _start_long(self) -> None:
        if self._file is not None:
            raise BodyFault("commit: expected one file's content in a line, found more")
        self._file = self._receive()
        self._long = Base64(self._file)
        self._long.write(bytes(self._line[self._string :]))
        self._line[self._string :] = self.stands_for.encode()

    def _outside(self, data: bytes, at: int) -> int:
        found = _OUTSIDE.search(data, at)
        end = found.end() if found else len(data)
        self._line += data[at:end]
        if found and found[0] == b'"':
            self._string = len(self._line)
        elif found:
            self._emit()
        return end

    def _emit(self) -> None:
        line, file = bytes(self._line).strip(), self._file
        self._line.clear()
        self._file = None
        if not line:
            return
        try:
            document = loads(line, where="commit", limit=MAX_LINE)
        except EntryError as error:
            raise BodyFault(error.message) from None
        self._on_line(document, file)
