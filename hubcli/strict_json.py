"""JSON from outside: size, text, numbers, nesting and duplicate keys are checked, where `json` would let them pass.

A document is UTF-8 without a byte order mark. Refused are: what is over its size limit (before parsing), duplicate
keys, NaN and infinities (also `1e999`), integers over 20 digits, nesting over 64 levels, lone surrogates, control
characters and characters that change the direction of text. The files of tokenizers are `vocabulary`: their words are
any characters, and transformers writes "no limit" with 31 digits.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NoReturn

from hubcli.errors import EntryError

MAX_DEPTH = 64
MAX_DIGITS, VOCABULARY_DIGITS = 20, 40
# controls but tab and line ends; directional marks, overrides, isolates; invisible characters; BOM; lone surrogates
_SURROGATE = re.compile("[\ud800-\udfff]")
_BAD_TEXT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def loads(data: bytes, *, where: str, limit: int, vocabulary: bool = False) -> Any:
    """Parse one JSON document of at most `limit` bytes; `where` names it in messages, `vocabulary` says it is a tokenizer's.

    Raises:
        EntryError: E_JSON_SIZE, E_JSON_TEXT, E_JSON_SYNTAX (with line and column), E_JSON_DUPKEY, E_JSON_NUMBER or
            E_JSON_DEPTH.
    """
    if len(data) > limit:
        raise EntryError(f"{where}: expected at most {limit} bytes of JSON, found {len(data)}", id="E_JSON_SIZE")
    refused = _SURROGATE if vocabulary else _BAD_TEXT
    digits = VOCABULARY_DIGITS if vocabulary else MAX_DIGITS
    text = _decode(data, where, refused)
    try:
        document = json.loads(
            text,
            object_pairs_hook=lambda pairs: _object(pairs, where),
            parse_constant=lambda word: _number(word, where),
            parse_float=lambda text: _float(text, where),
            parse_int=lambda text: int(text) if len(text) <= digits else _number(text, where, digits),
        )
    except RecursionError:
        raise _too_deep(where) from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise EntryError(f"{where}: not JSON at {place}: {error.msg}", id="E_JSON_SYNTAX") from None
    if "\\" in text or text.count("[") + text.count("{") > MAX_DEPTH:
        _walk(document, where, refused)
    return document


def read(file: Path, *, limit: int, where: str | None = None, vocabulary: bool = False) -> Any:
    """`loads` of a file, whose size is checked before it is read.

    Raises:
        EntryError: as `loads`.
        OSError: the file can't be read.
    """
    where = where or str(file)
    return loads(read_bytes(file, limit=limit, where=where), where=where, limit=limit, vocabulary=vocabulary)


def read_bytes(file: Path, *, limit: int, where: str) -> bytes:
    """The bytes of a file, never more than `limit` of them.

    Raises:
        EntryError: E_JSON_SIZE, the file is bigger.
        OSError: the file can't be read.
    """
    with file.open("rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        size = file.stat().st_size
        raise EntryError(f"{where}: expected at most {limit} bytes of JSON, found {size}", id="E_JSON_SIZE")
    return data


def bad_text(text: str, refused: re.Pattern[str] = _BAD_TEXT) -> str | None:
    """The first character that no text from outside may hold, escaped, or None. Tabs and line ends are allowed here."""
    found = refused.search(text)
    return ascii(found.group())[1:-1] if found else None


def _decode(data: bytes, where: str, refused: re.Pattern[str]) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{data[error.start]:02x} at {error.start}"
        raise EntryError(f"{where}: expected UTF-8, found {found}", id="E_JSON_TEXT") from None
    if bad := bad_text(text, refused):
        raise _forbidden(bad, where)
    return text


def _forbidden(character: str, where: str) -> EntryError:
    return EntryError(f"{where}: character {character} is not allowed in text", id="E_JSON_TEXT")


def _object(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise EntryError(f"{where}: key {twice[:80]!a} stands twice in one object", id="E_JSON_DUPKEY")
    return result


def _number(text: str, where: str, digits: int = MAX_DIGITS) -> NoReturn:
    shown = text if len(text) <= 24 else f"{text[:12]}… ({len(text)} digits)"
    expected = f"a finite number of at most {digits} digits"
    raise EntryError(f"{where}: expected {expected}, found {shown}", id="E_JSON_NUMBER")


def _float(text: str, where: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _number(text, where)


def _too_deep(where: str) -> EntryError:
    return EntryError(f"{where}: nested more than {MAX_DEPTH} levels deep", id="E_JSON_DEPTH")


def _walk(document: Any, where: str, refused: re.Pattern[str]) -> None:
    """Depth of containers, and the text that escapes spell out."""
    level, depth = [document], 0
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                if bad := bad_text(item, refused):
                    raise _forbidden(bad, where)
            elif isinstance(item, dict):
                below += [*item, *item.values()]
            elif isinstance(item, list):
                below += item
        if depth >= MAX_DEPTH and any(isinstance(item, dict | list) for item in level):
            raise _too_deep(where)
        level, depth = below, depth + 1
