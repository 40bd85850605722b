"""Weights in a `.bin` of a local folder that a person names: read in a child process with limits, kept as safetensors.

One child serves all files of a process and ends with it. What it makes is cached by the sha256 of the `.bin`.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor

from hubcli.errors import UnsafeFormatError, WeightsError
from hubcli.formats.weights import read_tensors
from hubcli.method import HubcliWarning
from hubcli.paths import home

MAX_BIN = 2 << 30  # bytes
SECONDS = 120  # one file, the child's start included
# What the child gets of our environment: no tokens, no Python settings.
KEPT = ("PATH", "HOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "TEMP", "SYSTEMROOT")


def weights_of(folder: Path, safe: str, pickled: str) -> tuple[list[str], dict[str, Tensor], str]:
    """(notes, tensors, sha256) of the weights; safetensors where both are there."""
    file = folder / safe
    if not file.is_file():
        return [], *read_bin(folder / pickled)
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    notes = [f"{pickled} beside {safe} is ignored"] if (folder / pickled).exists() else []
    return notes, read_tensors(file), sha256


def read_bin(file: Path) -> tuple[dict[str, Tensor], str]:
    """(the tensors of a pickled file, its sha256).

    Raises:
        UnsafeFormatError: it holds anything but tensors, or was not read within the limits.
        WeightsError: it is too large.
    """
    size = file.stat().st_size
    if size > MAX_BIN:
        raise WeightsError(f"{file}: expected at most {MAX_BIN} bytes, found {size}")
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    kept = home() / "cache" / "converted" / f"{sha256}.safetensors"
    if not kept.is_file():
        warnings.warn(
            f"{file} is a pickle: read with weights_only in a process of its own; convert it to safetensors",
            HubcliWarning,
            stacklevel=2,
        )
        kept.parent.mkdir(parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=kept.parent, suffix=".part")
        os.close(handle)
        try:
            CHILD.convert(file, Path(made))
            Path(made).replace(kept)
        finally:
            Path(made).unlink(missing_ok=True)
    return read_tensors(kept), sha256


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
