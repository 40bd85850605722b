"""Numbers of bytes and of things for a person."""

from __future__ import annotations

import re


def size(count: float) -> str:
    """A number of bytes for a person: 301.5 kB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def many(number: int, one: str, more: str | None = None) -> str:
    """A number of things for a person: 1 entry, 2 entries, 1,024 files; `more` is `one` with an s unless it is given."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def entries(number: int) -> str:
    """1 entry, 2 entries."""
    return many(number, "entry", "entries")


def count(text: str) -> int:
    """The number of bytes that a person wrote: 300000, 500MB, 2.5 GB. ValueError for anything else."""
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,3})?) ?(B|kB|MB|GB|TB)?", text.strip(), re.ASCII | re.IGNORECASE)
    if found is None:
        raise ValueError(f"expected a size like 300000, 500MB or 2.5GB, found {text!r}")
    powers = {"b": 0, "kb": 1, "mb": 2, "gb": 3, "tb": 4}
    return round(float(found[1]) * 1000.0 ** powers[(found[2] or "B").lower()])
