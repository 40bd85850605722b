"""Parts cut from rows: by what a row says, or by a seed. Neither depends on Python's hashes or the order of anything else.

By hash: a row's input columns, each lower-cased with every run of white space as one space, are joined by U+001F (which is
white space, so no column can hold it) and hashed: `position` = the first 8 bytes of the sha256 of that text in UTF-8, a
big-endian integer over 2^64. `position < test` is test, `position < test + validation` is validation, the rest is train. So the
same input stands on the same side whatever the order, the seed or the other rows, duplicates never straddle two parts, and
the share of validation does not move what is test. An image counts as its bytes, or as the JSON of its numbers.

By random: rows are ranked by the sha256 of `seed:split:row` (row from 0); the first round(n * test) are test, the next
round(n * validation) are validation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from hubcli.recipe import PARTS

JOIN = "\x1f"


def normalised(columns: Iterable[str]) -> str:
    """What two inputs that say the same have in common."""
    return JOIN.join([" ".join(text.lower().split()) for text in columns])


def key(columns: Iterable[str]) -> bytes:
    """The sha256 of a row's input."""
    return hashlib.sha256(normalised(columns).encode()).digest()


def by_hash(keys: Sequence[bytes], validation: float, test: float) -> dict[str, list[int]]:
    """The rows of each part, in order, by their keys."""
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    first, second = _threshold(test), _threshold(test + validation)
    for row, digest in enumerate(keys):
        part = "test" if digest[:8] < first else "validation" if digest[:8] < second else "train"
        parts[part].append(row)
    return parts


def by_random(count: int, validation: float, test: float, seed: int) -> dict[str, list[int]]:
    """The rows of each part, in order, by a permutation."""
    ranked = _ranked(count, seed, "split")
    first = round(count * test)
    second = first + round(count * validation)
    return {
        "test": sorted(ranked[:first]),
        "validation": sorted(ranked[first:second]),
        "train": sorted(ranked[second:]),
    }


def chosen(count: int, limit: int, seed: int, part: str) -> list[int]:
    """`limit` of the rows, in order."""
    return sorted(_ranked(count, seed, part)[:limit]) if limit < count else list(range(count))


def _threshold(share: float) -> bytes:
    # compared as bytes, which orders as the big-endian integers do
    return min(round(share * 2**64), 2**64 - 1).to_bytes(8, "big")


def _ranked(count: int, seed: int, purpose: str) -> list[int]:
    start = f"{seed}:{purpose}:"
    return sorted(range(count), key=lambda row: hashlib.sha256(f"{start}{row}".encode()).digest())
