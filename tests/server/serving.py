"""The server in a process of its own, to be killed: `python -m tests.server.serving FOLDER TOKEN [LFS_ABOVE]`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi

from hubcli.server import Limits, serve
from hubcli.server.crash import VARIABLE

ROOT = Path(__file__).parents[2]
TOKEN = "writes"


@dataclass
class Serving:
    """A running server: its process and a client of it."""

    process: subprocess.Popen[str]
    api: HfApi

    def died(self) -> int:
        """The signal that ended it, negative; it is waited for."""
        return self.process.wait(60)


@contextlib.contextmanager
def serving(folder: Path, *, lfs_above: int = 512_000_000, fault: str | None = None) -> Iterator[Serving]:
    """A server of `folder` that dies at a fault point, if one is given; stopped at the end otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **({VARIABLE: fault} if fault else {})}
    command = [sys.executable, "-m", "tests.server.serving", str(folder), TOKEN, str(lfs_above)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        try:
            yield Serving(process, HfApi(endpoint=url, token=TOKEN))
        finally:
            process.terminate()


if __name__ == "__main__":
    limits = Limits(lfs_above=int(sys.argv[3]))
    serve(Path(sys.argv[1]), port=0, token=sys.argv[2], limits=limits, ready=lambda url: print(url, flush=True))
