"""Runs in processes of their own: each has its own peak of memory, and a crash of one loses that one alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import IO, Any

from hubcli import toml_file
from hubcli.errors import BusyError
from hubcli.training import run_folder
from hubcli.training.compare.plan import BROKEN_OFF, Run

Ended = Callable[[Run, str | None, float], None]
LOCK = ".lock"
GRACE = 15.0  # seconds that a child has to end after it was told to
LAST = 4096  # bytes of a log that are looked through for its error


@dataclass(slots=True)
class Children:
    """The processes of a comparison.

    Args:
        jobs: how many run at once. arguments: of every `hubcli train`. environment: what is different in theirs.
        began, ended: told of each run; `ended` also why it failed, and its seconds. Both are called in this thread.
    """

    jobs: int
    arguments: Sequence[str]
    environment: dict[str, str]
    began: Callable[[Run], None]
    ended: Ended
    lock: IO[bytes] | None = None
    alive: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    guard: Any = field(default_factory=Lock)
    stopping: bool = False

    def run(self, runs: Sequence[Run]) -> dict[str, str]:
        """Every run to its end; the names of those that failed, with why.

        Raises:
            KeyboardInterrupt: the person's; the children were told to stop, and have.
        """
        left, failed = list(runs), {}
        pool = ThreadPoolExecutor(self.jobs)
        at_work: dict[Future[tuple[int, float]], Run] = {}
        try:
            with _terminated_as_interrupted():
                while left or at_work:
                    while left and len(at_work) < self.jobs:
                        run = left.pop(0)
                        self.began(run)
                        at_work[pool.submit(self._one, run)] = run
                    for done in wait(at_work, return_when=FIRST_COMPLETED).done:
                        run = at_work.pop(done)
                        code, seconds = done.result()
                        if code:
                            failed[run.name] = error_of(run, code)
                        self.ended(run, failed.get(run.name), seconds)
        finally:
            self.stop()
            pool.shutdown()
        return failed

    def stop(self) -> None:
        """End every child that is still there: as Ctrl-C does, and by force where that takes too long."""
        with self.guard:
            self.stopping = True
            alive = list(self.alive.values())
        for child in alive:
            with contextlib.suppress(OSError, ValueError):
                child.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
        until = time.monotonic() + GRACE
        for child in alive:
            try:
                child.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()

    def _one(self, run: Run) -> tuple[int, float]:
        """One child from beginning to end: its exit code and seconds."""
        toml_file.write(run.file, run.text)
        if run.state != BROKEN_OFF and run.folder.is_dir() and run_folder.read(run.folder) is None:
            _clear(run.folder)
        begin = time.monotonic()
        with run.log.open("ab") as log:
            with self.guard:
                if self.stopping:
                    return 1, 0.0
                child = self.alive[run.name] = subprocess.Popen(
                    command(run, self._more(run)),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **self.environment},
                    pass_fds=(self.lock.fileno(),) if self.lock is not None else (),
                    start_new_session=os.name == "posix",  # Ctrl-C reaches it through us alone, once
                )
            code = child.wait()
        with self.guard:
            del self.alive[run.name]
        return code, time.monotonic() - begin

    def _more(self, run: Run) -> list[str]:
        there = run_folder.read(run.folder) is not None
        how = ["--resume"] if run.state == BROKEN_OFF else ["--force"] if there else []
        return [*how, *self.arguments]


def command(run: Run, more: Sequence[str]) -> list[str]:
    """What trains one run."""
    return [sys.executable, "-m", "hubcli", "train", str(run.file), "--out", str(run.folder), *more]


def error_of(run: Run, code: int) -> str:
    """Why a run failed: what its log says, or what ended it."""
    with run.log.open("rb") as file:
        file.seek(max(0, run.log.stat().st_size - LAST))
        lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")] or lines[-1:]
    if code < 0:
        said = [f"ended by {_signal(-code)}"]
    return said[-1] if said else f"exit code {code}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[IO[bytes] | None]:
    """Hold the folder. The children hold it too: one that outlives us is not joined by a second in the same place.

    Raises:
        BusyError: another comparison, or a training that one began, is at work there.
    """
    try:
        import fcntl
    except ImportError:  # no such lock on this system
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BusyError(f"another comparison, or a training that one began, is at work in {folder}") from None
        yield file


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends us as Ctrl-C does: with the children stopped. Only the main thread can say so."""

    def interrupt(number: int, frame: Any) -> None:
        del number, frame
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _clear(folder: Path) -> None:
    """Take away what a run left that was killed before it had begun; anything else is left for `hubcli train` to refuse."""
    if {path.name for path in folder.iterdir()} <= {run_folder.RECIPE}:
        shutil.rmtree(folder)
