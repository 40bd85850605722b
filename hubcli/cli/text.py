"""Text for a terminal: nothing from outside may move the cursor, change colours or reorder what a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def clean(text: object) -> str:
    """`text` on one line, without control characters, bidi overrides and other format characters (categories C*)."""
    whole = str(text)
    if whole.isascii() and whole.isprintable():
        return whole
    import unicodedata

    kept = (" " if c in "\n\r\t" else c for c in whole if c in "\n\r\t" or unicodedata.category(c)[0] != "C")
    return "".join(kept)


def clean_lines(text: str) -> str:
    """Each line of a text, cleaned."""
    return "\n".join(clean(line) for line in text.split("\n"))


def to_json(document: object) -> str:
    """A document as JSON in which characters that `clean` removes are escaped, and all others stand as they are."""
    import json

    text = json.dumps(document, indent=2, ensure_ascii=False)
    if text.isascii() and "\x7f" not in text:
        return text
    return "\n".join("".join(c if c == clean(c) else json.dumps(c)[1:-1] for c in line) for line in text.split("\n"))


def columns(rows: Sequence[tuple[Any, ...]], header: tuple[str, ...]) -> list[str]:
    """Rows as aligned, cleaned lines under a header; the last column is as wide as it is."""
    table = [header, *(tuple(clean(cell) for cell in row) for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
