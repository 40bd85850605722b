"""Showing how far long work has come."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Protocol

_SILENCED = ContextVar("silenced", default=False)


class Progress(Protocol):
    """What long work reports to. One file at a time; `done` ends it, also after an error."""

    def start(self, file: str, size: int) -> None:
        """A file of `size` bytes begins."""

    def advance(self, n: int) -> None:
        """`n` more bytes of it are done; negative when a try starts again."""

    def done(self) -> None:
        """The file has ended."""


class Silent:
    """Shows nothing."""

    def start(self, file: str, size: int) -> None:
        """Nothing."""

    def advance(self, n: int) -> None:
        """Nothing."""

    def done(self) -> None:
        """Nothing."""


class Bar:
    """A tqdm bar a file on stderr. Small files show none: they are done before it could be read."""

    SMALL = 1 << 20

    def __init__(self) -> None:
        self._bar: Any = None

    def start(self, file: str, size: int) -> None:
        """A file of `size` bytes begins."""
        self.done()
        if size >= self.SMALL:
            from tqdm import tqdm

            self._bar = tqdm(total=size, desc=file, unit="B", unit_scale=True, leave=False, file=sys.stderr)

    def advance(self, n: int) -> None:
        """`n` more bytes of it are done."""
        if self._bar is not None:
            self._bar.update(n)

    def done(self) -> None:
        """The file has ended."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Steps:
    """A tqdm bar of steps on stderr, where that is a terminal and they take longer than a second; called with (done, of)."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: Any = None
        self._shown = shown()

    def __call__(self, done: int, of: int) -> None:
        """So many are done."""
        if self._shown and self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=of, desc=self._what, leave=False, file=sys.stderr, delay=1.0)
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """No more steps."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def for_terminal() -> Progress:
    """A bar where stderr is a terminal, else nothing."""
    return Bar() if shown() else Silent()


def shown() -> bool:
    """Whether bars are for anyone: stderr is a terminal, and nobody asked for silence."""
    return sys.stderr is not None and sys.stderr.isatty() and not _SILENCED.get()


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """No bars, also not of the libraries that read for us."""
    token = _SILENCED.set(True)
    try:
        yield
    finally:
        _SILENCED.reset(token)


def is_silenced() -> bool:
    """Whether `silenced` holds."""
    return _SILENCED.get()
