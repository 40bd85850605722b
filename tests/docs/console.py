"""The console blocks of a guide, run by a shell as they stand there: one shell a guide, its commands in order.

A line that starts with `$ ` is a command, up to a line that does not end in a backslash; what follows up to the next is what it
prints. `…` in it stands for any text; without `…` it is all of it. Servers run in the background until the guide is done. A comment
`<!-- another machine -->` gives what follows a home and a cache of its own, and no token; `<!-- the first machine -->` leads back.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

ROOT = Path(__file__).resolve().parents[2]
SERVERS = ("hubcli hub serve", "python -m http.server")
_END = "\x1e"


class Step(NamedTuple):
    """A command of a guide, what the guide shows of its output, and the line it stands on."""

    command: str
    shown: str
    line: int


def steps(text: str) -> list[Step]:
    """All commands of a page, in order."""
    found: list[Step] = []
    for block in re.finditer(
        r"^```console\n(.*?)^```|^<!-- ((?:another|the first) machine) -->$", text, re.MULTILINE | re.DOTALL
    ):
        if block[2]:
            found.append(Step(block[2], "", text.count("\n", 0, block.start()) + 1))
            continue
        first = text.count("\n", 0, block.start(1)) + 1
        for part in re.finditer(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", block[1], re.MULTILINE):
            found.append(Step(part[1], part[2].rstrip("\n"), first + block[1].count("\n", 0, part.start())))
    return found


def _even(text: str) -> str:
    """Columns are as wide as what stands in them."""
    return re.sub(r" {2,}", " ", text)


class Shell:
    """bash in a folder, between `with` and its end. `instead` maps what a guide writes to what there is here."""

    def __init__(self, folder: Path, environment: Mapping[str, str], instead: Mapping[str, str]):
        self.folder, self.instead = folder, dict(instead)
        self._pipes = self._machines = 0
        kept = {name: os.environ[name] for name in ("LANG", "TMPDIR", "OMP_NUM_THREADS") if name in os.environ}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**kept, "PATH": path, "HOME": str(folder), "PYTHONUNBUFFERED": "1", **environment}

    def __enter__(self) -> Self:
        self._bash = subprocess.Popen(
            ["bash", "--norc"], cwd=self.folder, env=self._environment, text=True, bufsize=1, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write("kill $(jobs -p) 2>/dev/null; exit\n")
        self._bash.stdin.close()
        self._bash.wait(30)

    def run(self, step: Step) -> str:
        """Run one command; what it printed. It has to end with 0, and print what the guide shows."""
        code, printed = self._send(self._here(step.command))
        assert code == 0, f"line {step.line}: {step.command}\n{printed}"
        if step.shown:
            pattern = ".*".join(re.escape(part) for part in _even(self._here(step.shown)).split("…"))
            assert re.fullmatch(pattern, _even(printed.rstrip("\n")), re.DOTALL), (
                f"line {step.line}: {step.command}\nshown:\n{step.shown}\nprinted:\n{printed}"
            )
        return printed

    def python(self, name: str, source: str) -> str:
        """Run a Python block in the same folder and environment."""
        (self.folder / name).write_text(self._here(source), encoding="utf-8")
        return self.run(Step(f"python {name}", "", 0))

    def _here(self, text: str) -> str:
        for there, here in self.instead.items():
            text = text.replace(there, here)
        return text

    def _send(self, command: str) -> tuple[int, str]:
        if command in ("another machine", "the first machine"):
            return self._ask(self._move(command == "another machine"))
        if command.startswith(SERVERS):
            return 0, self._serve(command)
        return self._ask(command)

    def _move(self, away: bool) -> str:
        """The environment of another machine, or that of this one again."""
        self._machines += away
        home = self.folder.parent / f"machine{self._machines}"
        if away:
            return f"unset HF_TOKEN HF_ENDPOINT HF_HUB_OFFLINE; export HUBCLI_HOME={home}/hubcli HF_HOME={home}/hf"
        kept = {name: self._environment[name] for name in ("HUBCLI_HOME", "HF_HOME")}
        return "unset HF_HUB_OFFLINE; export " + " ".join(f"{name}={value}" for name, value in kept.items())

    def _ask(self, command: str) -> tuple[int, str]:
        assert self._bash.stdin is not None and self._bash.stdout is not None
        self._bash.stdin.write(f"{{ {command}\n}} < /dev/null\nprintf '{_END}%s\\n' $?\n")
        printed = ""
        for line in self._bash.stdout:
            before, end, code = line.partition(_END)
            printed += before
            if end:
                return int(code), printed
        raise AssertionError(f"the shell ended at: {command}\n{printed}")

    def _serve(self, command: str) -> str:
        """Start a server; its first line says that it is there."""
        self._pipes += 1
        pipe = self.folder / f".server{self._pipes}"
        os.mkfifo(pipe)
        command = command.partition("#")[0].strip()
        assert self._ask(f"{command} > {pipe} 2>&1 &")[0] == 0
        with pipe.open() as out:
            line = out.readline()
            self._keep(out.fileno())
            return line

    def _keep(self, handle: int) -> None:
        """Hold the pipe open, so that the server may go on to write."""
        os.set_inheritable(os.dup(handle), False)
