"""Rows on their way to a table: each text once, on the side of the split that its hash says."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

Row = dict[str, Any]  # column -> what JSON can say
Parts = dict[str, list[Row]]

PARTS = ("train", "validation", "test")
TEST_MODULUS = 5
VALIDATION_MODULUS = 10
SPLIT = (
    "h = sha256 of the row's key as a number; test where h % 5 == 0; of the rest, validation where (h // 5) % 10 == 0"
)

_LINKS = re.compile(r"https?://\S+|www\.\S+|@\w+")
_FORWARDED = re.compile(r"\b(rt|via|mt)\b")


def normalised(text: str) -> str:
    """Lower case, runs of whitespace made one space."""
    return " ".join(text.lower().split())


def gist(text: str) -> str:
    """What repeats and forwards of one message share: its words, without links and names, every number a 0."""
    plain = _FORWARDED.sub(" ", _LINKS.sub(" ", text.lower()))
    return " ".join(re.findall(r"\w+", re.sub(r"\d+", "0", plain)))


def number_of(key: str) -> int:
    return int(hashlib.sha256(key.encode()).hexdigest(), 16)


def part_of(key: str) -> str:
    """The same key always falls on the same side."""
    number = number_of(key)
    if number % TEST_MODULUS == 0:
        return "test"
    return "validation" if number // TEST_MODULUS % VALIDATION_MODULUS == 0 else "train"


def once(rows: Iterable[Row], key: Callable[[Row], str], dropped: Counter[str], label: str = "label") -> dict[str, Row]:
    """Key -> its first row, in the order given; keys whose rows disagree on the label are left out whole."""
    found: dict[str, Row] = {}
    torn: set[str] = set()
    counted: Counter[str] = Counter()
    for row in rows:
        name = key(row)
        counted[name] += 1
        if found.setdefault(name, row).get(label) != row.get(label):
            torn.add(name)
    dropped["same text with other labels"] += sum(counted[name] for name in torn)
    kept = {name: row for name, row in found.items() if name not in torn}
    dropped["same text again"] += sum(counted[name] - 1 for name in kept)
    return kept


def split(keyed: dict[str, Row], part: Callable[[str], str] = part_of) -> Parts:
    parts: Parts = {name: [] for name in PARTS}
    for key, row in keyed.items():
        parts[part(key)].append(row)
    return parts
