"""What Python is warned of while a command runs, told to who runs it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hubcli.adapted import Adapted


@contextlib.contextmanager
def told(warn: Callable[[str], None]) -> Iterator[None]:
    """Each warning of the body once, also where it fails; what is not meant for users goes Python's usual way."""
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            yield
    finally:
        for text in dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, UserWarning)):
            warn(text)
        for other in caught:
            if not issubclass(other.category, UserWarning):
                warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)


def noted(adapted: Adapted, note: Callable[[str], None]) -> None:
    """What the adapters note of themselves."""
    for info in adapted.adapters.values():
        for said in info.notes:
            note(f"{info.name}: {said}")
