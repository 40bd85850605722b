"""The cross-process lock: saves work and disk when two processes want the same thing. Nothing is wrong without it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from hubcli.errors import BusyError, UsageError
from hubcli.store import faults

VARIABLE = "HUBCLI_LOCK_TIMEOUT"
DEFAULT_SECONDS = 300.0


def wait_seconds() -> float:
    """How long to wait for a lock: `HUBCLI_LOCK_TIMEOUT` in seconds, else 300.

    Raises:
        UsageError: the variable is no number of seconds.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return DEFAULT_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UsageError(f"{VARIABLE}: expected a number of seconds, found {ascii(text)[:40]}", id="E_CONFIG")
    return seconds


@contextlib.contextmanager
def hold(
    path: Path, resource: str, *, no_wait: bool = False, warn: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold the lock file `path` for the block; `resource` names in messages what it guards.

    Raises:
        BusyError: another process held it for as long as we wait.
    """
    release = _take_at_once(path) or _take_waiting(path, resource, no_wait, warn)
    try:
        yield
        faults.reach("before-unlock")
    finally:
        release()


def _take_at_once(path: Path) -> Callable[[], None] | None:
    """Take a free lock the way filelock does, without importing it: it costs more than a whole install of a small adapter."""
    try:
        import fcntl
    except ImportError:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return lambda: os.close(handle)


def _take_waiting(path: Path, resource: str, no_wait: bool, warn: Callable[[str], None] | None) -> Callable[[], None]:
    import filelock

    seconds = 0.0 if no_wait else wait_seconds()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path, timeout=seconds, thread_local=False)
    if warn and seconds:
        warn(
            f"waiting for {resource}, held by another hubcli ({path}); at most {seconds:g} s, set {VARIABLE} to change that"
        )
    try:
        lock.acquire()
    except filelock.Timeout as error:
        waited = "" if no_wait else f" (waited {seconds:g} s)"
        raise BusyError(
            f"{resource} is in use by another hubcli{waited}: lock {path}",
            hint=f"try again when it has ended, or set {VARIABLE} (seconds; now {seconds:g})",
        ) from error
    except NotImplementedError:  # this file system has no locks; unique names and renames keep us right without them
        return lambda: None
    return lock.release
