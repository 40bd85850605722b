"""What Python is warned of while a command runs, told to who runs it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hubcli.adapted import Adapted


@contextlib.contextmanager
def told(warn: Callable[[str], None]) -> Iterator[None]:
    """Each warning of the body once, as it is raised; what is not meant for users goes Python's usual way."""
    usual, filters, said = warnings.showwarning, [*warnings.filters], set[str]()

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, UserWarning):
            usual(message, category, *place, **more)
        elif str(message) not in said:
            said.add(str(message))
            with warnings.catch_warnings():  # `warn` may warn Python itself, as if nobody listened here
                warnings.showwarning = usual
                warnings.filters[:] = filters  # type: ignore[index]
                warn(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


def noted(adapted: Adapted, note: Callable[[str], None]) -> None:
    """What the adapters note of themselves."""
    for info in adapted.adapters.values():
        for said in info.notes:
            note(f"{info.name}: {said}")
