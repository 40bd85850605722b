"""Values of a card from outside, read one by one; what is none is the reason that the card is no entry."""

from __future__ import annotations

import re
from typing import Any

Json = dict[str, Any]


class Unmapped(Exception):
    """Why a card, or one version of it, is no entry."""


def text_of(card: Json, key: str, limit: int = 200) -> str:
    """A field that has to be a text, as one line.

    Raises:
        Unmapped: it is none, or too long.
    """
    value = card.get(key)
    if not isinstance(value, str) or len(value) > limit:
        raise Unmapped(f"{key}: expected a text of at most {limit} characters, found {shown(value)}")
    return line(value)


def shown(value: Any) -> str:
    """A value from a card for a message: ASCII, short."""
    text = ascii(value) if isinstance(value, str | None) else type(value).__name__
    return "nothing" if value in (None, "") else text if len(text) <= 80 else text[:79] + "…"


def line(text: str) -> str:
    """One line: an entry's texts are single lines."""
    return " ".join(text.split())


def number_of(key: str, text: Any) -> int | float:
    """The number that a text spells.

    Raises:
        Unmapped: it spells none from 0 to 10^9.
    """
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise Unmapped(f"{key}: expected a number, found {shown(text)}")
    value = float(text)
    return int(value) if value.is_integer() else value
