"""What is wrong with data, gathered by kind, so that a person hears of all of it at once and before any training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hubcli.errors import UsageError
from hubcli.schema import shown

FIRST = 5  # findings of a kind that are told one by one; the rest is counted
KINDS = 8  # kinds that one message tells


def printable(text: str) -> str:
    """A text on one line, what a terminal would obey escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def value(found: object) -> str:
    """A value from a file, for a message."""
    return printable(shown(found))


def listed(names: Iterable[str], count: int | None = None) -> str:
    """`a, b, c, d, e and 17 more`; `count` where `names` holds only the first."""
    first = list(names)
    more = (len(first) if count is None else count) - len(first[:FIRST])
    return ", ".join(first[:FIRST]) + (f" and {more} more" if more > 0 else "")


def bad_data(message: str, hint: str | None = None, cause: str | None = None) -> UsageError:
    """The error of data that can't be trained on."""
    return UsageError(message, id="E_DATA", hint=hint, cause=cause)


class Findings:
    """Findings by kind: where each stands, and what was found there."""

    def __init__(self) -> None:
        self._first: dict[str, list[str]] = {}
        self._count: dict[str, int] = {}
        self._hint: str | None = None

    def __bool__(self) -> bool:
        return bool(self._first)

    def add(self, kind: str, place: str, found: str = "", hint: str | None = None) -> None:
        """One more of a kind; `found` is shown beside its place."""
        first = self._first.setdefault(kind, [])
        self._count[kind] = self._count.get(kind, 0) + 1
        if len(first) < FIRST:
            first.append(f"{place} ({found})" if found else place)
        self._hint = self._hint or hint

    def stop(self) -> None:
        """Raise what was found, if anything was.

        Raises:
            UsageError: E_DATA.
        """
        if self._first:
            told = self.told()
            more = [f"{len(told) - KINDS} more kinds of faults"] if len(told) > KINDS else []
            raise bad_data("; ".join(told[:KINDS] + more), self._hint)

    def told(self) -> list[str]:
        """A line for each kind."""
        return [f"{kind}: {listed(first, self._count[kind])}" for kind, first in self._first.items()]


def several(count: int, one: str, many: str | None = None) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def quoted(names: Sequence[str]) -> str:
    """Names for a message, the first few of them."""
    return listed([value(name) for name in names])
