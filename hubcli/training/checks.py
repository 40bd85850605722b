"""The cells of a table as what a task reads: text, labels, tags, turns, images; what can't be used is gathered with its place.

A value is a label by its text: text without the white space around it, `true` and `false`, and numbers as JSON has them, a
whole one without a fraction (1, 1.0 and "1" are one label). `data.map` is asked by that text, and what it does not name
stands for itself.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hubcli.recipe import Data
from hubcli.strict_json import bad_text
from hubcli.training.findings import Findings, value
from hubcli.training.tables import MAX_CELL, MISSING, Table

MAX_LABEL = 256  # characters, as in a recipe
ROLES = ("system", "user", "assistant")
NO_TEXT = frozenset({"nan", "NaN", "-nan", "inf", "-inf"})  # what a program writes for a number that is none
_NO_LABEL = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")


def fields(table: Table, data: Data, findings: Findings) -> dict[str, list[Any]]:
    """The table's columns as a task reads them; labels and tags still as text. Faults go to `findings`."""
    read = _Reader(table, data, findings)
    made = {key: read.column(key, values) for key, values in table.columns.items()}
    if "tokens" in made:
        _equal(made["tokens"], made["tags"], table, findings)
    return made


def label_text(found: Any) -> str | None:
    """A value of a label column as text; None where it is no label."""
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, str):
        return found.strip() or None
    if isinstance(found, float):
        if not math.isfinite(found):
            return None
        return str(int(found)) if found.is_integer() else repr(found)
    return str(found) if isinstance(found, int) else None


def _told(found: Any) -> str:
    """What was found in place of something else."""
    if found is MISSING or found is None:
        return "nothing"
    if isinstance(found, str):
        return "empty" if not found.strip() else value(found[:80])
    if isinstance(found, bytes | bytearray):
        return "bytes"
    if isinstance(found, dict | list):
        return ("a list" if found else "an empty list") if isinstance(found, list) else "an object"
    return value(found)


class _Reader:
    def __init__(self, table: Table, data: Data, findings: Findings) -> None:
        self._table, self._findings = table, findings
        self._columns = data.columns
        self._map = {key.strip(): str(name) for key, name in data.map.items()}
        self._declared = {*self._map, *data.labels}
        self._known: dict[Any, str | None] = {}
        self._images: dict[str, str | None] = {}

    def column(self, key: str, values: list[Any]) -> list[Any]:
        kinds: dict[str, tuple[str, Callable[[Any], Any]]] = {
            "label": ("a label", self._label),
            "tokens": ("tokens (a list, or words between white space)", self._tokens),
            "tags": ("tags (a list, or words between white space)", self._tags),
            "messages": ("messages, the last one an assistant's", self._messages),
            "image": ("an image", self._image),
        }
        expected, one = kinds.get(key, ("text", self._text))
        column = value(self._columns.get(key, key))
        made = []
        for row, found in enumerate(values):
            try:
                made.append(one(found))
            except ValueError as fault:
                made.append(None)
                self._findings.add(f"expected {expected} in {column}", self._place(row), str(fault))
        return made

    def _place(self, row: int) -> str:
        return f"{self._table.name}:{self._table.numbers[row]}"

    def _text(self, found: Any) -> str:
        if isinstance(found, str) and found in NO_TEXT:
            raise ValueError(f"found {_told(found)}")
        return self._word(found)

    def _word(self, found: Any) -> str:
        """Text; among others, `nan` and `inf` are words: no program writes a number that is none there."""
        if type(found) is not str or found.isspace() or not found:
            raise ValueError(f"found {_told(found)}")
        if len(found) > MAX_CELL:
            raise ValueError(f"found {len(found)} characters, more than 1 MiB")
        if not found.isascii() and _SURROGATE.search(found):
            raise ValueError("found half of a surrogate pair")
        return found

    def _label(self, found: Any) -> str:
        known = (type(found), found) if isinstance(found, str | int | float) else None
        if known not in self._known or known is None:
            text = label_text(found)
            if text is not None and _NO_LABEL.fullmatch(text) and text not in self._declared:
                text = None
            if text is None or len(text) > MAX_LABEL or bad_text(text) or any(end in text for end in "\t\n"):
                raise ValueError(f"found {_told(found)}")
            self._known[known] = self._map.get(text, text)
        return self._known[known] or ""

    def _words(self, found: Any) -> list[Any]:
        if isinstance(found, str):
            found = _json_list(found, found.split())
        if not isinstance(found, list) or not found:
            raise ValueError(f"found {_told(found)}")
        return found

    def _tokens(self, found: Any) -> list[str]:
        return [self._word(word) for word in self._words(found)]

    def _tags(self, found: Any) -> list[str]:
        return [self._label(tag) for tag in self._words(found)]

    def _messages(self, found: Any) -> list[dict[str, str]]:
        if isinstance(found, str):
            found = _json_list(found, found)
        if not isinstance(found, list) or not found:
            raise ValueError(f"found {_told(found)}")
        made = []
        for number, message in enumerate(found, 1):
            if not isinstance(message, Mapping):
                raise ValueError(f"message {number}: expected role and content, found {_told(message)}")
            if message.get("role") not in ROLES:
                raise ValueError(
                    f"message {number}: expected role {', '.join(ROLES)}, found {_told(message.get('role'))}"
                )
            try:
                made.append({"role": message["role"], "content": self._text(message.get("content", MISSING))})
            except ValueError as fault:
                raise ValueError(f"message {number}: expected content, {fault}") from None
        if made[-1]["role"] != "assistant":
            raise ValueError(f"the last is the {made[-1]['role']}'s")
        return made

    def _image(self, found: Any) -> Any:
        if isinstance(found, str):
            found = _json_list(found, found) if found.startswith("[") else found
        if isinstance(found, Mapping):
            if isinstance(found.get("bytes"), bytes) and found["bytes"]:
                return {"bytes": found["bytes"], "path": found.get("path")}
            found = found.get("path")
        if isinstance(found, list) and found:
            return _numbers(found)
        if not isinstance(found, str) or not found.strip():
            raise ValueError(f"found {_told(found)}")
        path = self._table.folder / found
        if fault := _unreadable(path):
            raise ValueError(f"{fault} {value(found)}")
        return str(path)


def _json_list(text: str, default: Any) -> Any:
    """A cell of text that is a JSON list."""
    if not text.lstrip().startswith("["):
        return default
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return default
    return found if isinstance(found, list) else default


def _unreadable(path: Path) -> str | None:
    try:
        if not path.is_file():
            return "no file"
        return None if os.access(path, os.R_OK) else "not readable:"
    except (OSError, ValueError):
        return "no path"


def _numbers(rows: list[Any]) -> list[Any]:
    """An image as numbers: H x W, or H x W x C."""
    shapes = {_shape(row) for row in rows}
    if len(shapes) != 1 or None in shapes or len(next(iter(shapes)) or ()) not in (1, 2):
        raise ValueError("expected finite numbers, H x W or H x W x C, found a list of something else")
    return rows


def _shape(row: Any) -> tuple[int, ...] | None:
    if not isinstance(row, list) or not row:
        return None
    if all(type(one) is int or (type(one) is float and math.isfinite(one)) for one in row):
        return (len(row),)
    inner = {_shape(one) for one in row}
    first = next(iter(inner))
    return (len(row), *first) if len(inner) == 1 and first is not None and len(first) == 1 else None


def _equal(tokens: list[Any], tags: list[Any], table: Table, findings: Findings) -> None:
    for row, (words, own) in enumerate(zip(tokens, tags, strict=True)):
        if words is not None and own is not None and len(words) != len(own):
            place = f"{table.name}:{table.numbers[row]}"
            findings.add("expected a tag a token", place, f"found {len(words)} tokens, {len(own)} tags")
