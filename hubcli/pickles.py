"""Pickled weights become safetensors in a process of their own: with limits, with nothing of our environment, one for all files.

That process is `unpickle.py`; it ends with this one. Nothing here imports torch.
"""

from __future__ import annotations

import atexit
import json
import os
import selectors
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from hubcli.errors import UnsafeFormatError, WeightsError

MAX_BIN = 2 << 30  # bytes
SECONDS = 120  # one file, the child's start included
# What the child gets of our environment: no tokens, no Python settings.
KEPT = ("PATH", "HOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "TEMP", "SYSTEMROOT")


def check_size(name: str, size: int) -> None:
    """Refuse a file that is too large to be read so.

    Raises:
        WeightsError: expected and found.
    """
    if size > MAX_BIN:
        raise WeightsError(f"{name}: expected at most {MAX_BIN} bytes, found {size}")


class Child:
    """The one process that unpickles; started when first needed, and again if it died."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.lock = threading.Lock()

    def convert(self, file: Path, out: Path) -> None:
        """Have one file written as safetensors.

        Raises:
            UnsafeFormatError: as `read_bin`.
        """
        with self.lock:
            answer = self._ask({"file": str(file.absolute()), "out": str(out.absolute())})
        if answer is None:
            raise UnsafeFormatError(f"{file} could not be read within {SECONDS} seconds and the memory it may use")
        if "error" in answer:
            raise UnsafeFormatError(
                f"{file} is not read: it holds more than tensors, or is damaged", cause=answer["error"]
            )

    def _ask(self, order: dict[str, str]) -> dict[str, Any] | None:
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            with selectors.DefaultSelector() as ready:
                ready.register(process.stdout, selectors.EVENT_READ)
                line = process.stdout.readline() if ready.select(SECONDS) else ""
        except OSError:
            line = ""
        if line:
            return dict(json.loads(line))
        self.stop()
        return None

    def _running(self) -> subprocess.Popen[str]:
        if self.process is None or self.process.poll() is not None:
            script = str(Path(__file__).with_name("unpickle.py"))
            environment = {name: os.environ[name] for name in KEPT if name in os.environ}
            self.process = subprocess.Popen(
                [sys.executable, "-I", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                env=environment,
            )
            atexit.register(self.stop)
        return self.process

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None
        atexit.unregister(self.stop)


CHILD = Child()
