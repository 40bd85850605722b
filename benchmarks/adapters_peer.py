"""The `adapters` library as a contestant: it needs other versions than hubcli, so it runs in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT

HERE = Path(__file__).resolve().parent
FOLDER = HERE / ".peers" / "adapters"
REQUIREMENTS = HERE / "adapters-requirements.txt"
PYTHON, READY = FOLDER / "bin" / "python", FOLDER / ".ready"


class Peer:
    """A running worker."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process = process

    def ask(self, do: str, **arguments: Any) -> Any:
        """Give it a command and wait for the answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps({"do": do, **arguments}), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the adapters worker ended with {self.process.wait()}")
        return json.loads(line)

    def timed(self, name: str, ms: float = 30.0) -> Callable[[], float]:
        """A contestant: a case of this name."""
        return lambda: float(self.ask("time", name=name, ms=ms))


def installed() -> str | None:
    """Make the environment if it isn't there; why that can't be done, or None."""
    if READY.exists() and READY.read_text() == REQUIREMENTS.read_text():
        return None
    settings = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
    print(f"installing the adapters library into {FOLDER.relative_to(ROOT)} ...", file=sys.stderr)
    for command in (
        [sys.executable, "-m", "venv", str(FOLDER)],
        [str(PYTHON), "-m", "pip", "install", "--quiet", "--requirement", str(REQUIREMENTS)],
    ):
        done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"{command[0]} failed"
    READY.write_text(REQUIREMENTS.read_text())
    return None


@contextmanager
def peer() -> Iterator[Peer]:
    """A worker, in this process's environment: the same settings of the allocator, one thread."""
    command = [str(PYTHON), "-W", "ignore", str(HERE / "adapters_worker.py")]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield Peer(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
