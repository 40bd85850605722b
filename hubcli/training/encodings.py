"""Text files in an encoding: opened as they are, and where the first byte is that is not in it."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from hubcli.training.findings import bad_data, printable, value


@contextmanager
def opened(file: Path, name: str, encoding: str) -> Iterator[TextIO]:
    """The text of a file, its ends of lines as they are.

    Raises:
        UsageError: E_DATA, unknown encoding, or bytes that are not in it.
    """
    codec = _codec(encoding)
    try:
        with file.open(encoding=codec, newline="") as stream:
            yield stream
    except UnicodeError:
        raise _undecodable(file, name, encoding) from None


def _codec(encoding: str) -> str:
    try:
        found = codecs.lookup(encoding)
        if not found._is_text_encoding:
            raise LookupError
    except (LookupError, ValueError):
        raise bad_data(
            f"data.encoding: expected a text encoding, found {value(encoding)}",
            hint='e.g. "utf-8", "latin-1", "utf-16"',
        ) from None
    return "utf-8-sig" if found.name == "utf-8" else encoding


def _undecodable(file: Path, name: str, encoding: str) -> Exception:
    """The error that says where the first wrong byte is."""
    content = file.read_bytes()
    try:
        content.decode(encoding)
        found = "other bytes"
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} at offset {error.start}" + _line(
            content[: error.start], encoding
        )
    except UnicodeError as error:
        found = printable(str(error))
    return bad_data(f"{name}: expected {printable(encoding)}, found {found}", hint="data.encoding says what it is in")


def _line(before: bytes, encoding: str) -> str:
    try:
        return f" (line {before.decode(encoding, 'ignore').count(chr(10)) + 1})"
    except UnicodeError:  # a codec that skips nothing
        return ""
