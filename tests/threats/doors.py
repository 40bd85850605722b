"""The two doors into hubcli, the command line and Python, and what a threat's test needs around them."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hubcli import api
from hubcli.errors import HubcliError
from tests.support.cli import GROUPS, hubcli

ROOT = Path(__file__).parents[2]
NAMES = ("cli", "python")


@dataclass
class Outcome:
    """What came of one call: exit code and error id (0 and None: it worked), the document, and all that was said."""

    code: int
    id: str | None
    document: dict[str, Any]
    text: str


@dataclass(frozen=True)
class Door:
    """One way in. `door("index update", "acme", offline=True)` is `hubcli index update acme --offline` or `api.index_update`."""

    name: str

    def __call__(self, command: str, *arguments: str, cwd: Path | None = None, **options: Any) -> Outcome:
        return (_cli if self.name == "cli" else _python)(command, arguments, cwd, options)

    def install(self, *refs: str, **options: Any) -> Outcome:
        return self("install", *refs, **options)

    def process(self, command: str, *arguments: str, before: str = "", **options: Any) -> subprocess.Popen[str]:
        """The same call as a process of its own, which first runs the code `before`."""
        environment = os.environ | options.pop("environment", {})
        if self.name == "cli":
            call = f"from hubcli.cli.main import run; sys.exit(run({[*command.split(), *arguments]!r}))"
        else:
            call = _PYTHON.format(function=command.replace(" ", "_"), arguments=arguments)
        return subprocess.Popen(
            [sys.executable, "-c", f"import sys\n{before}\n{call}"],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options,
        )  # fmt: skip


_PYTHON = """
import traceback
from hubcli import api
from hubcli.errors import HubcliError
try:
    api.{function}(*{arguments!r})
except HubcliError as error:
    traceback.print_exc()
    print(error.id, error.message, error.cause, error.hint)
    sys.exit(error.exit_code)
except KeyboardInterrupt:
    sys.exit(130)
"""


def _cli(command: str, arguments: tuple[str, ...], cwd: Path | None, options: dict[str, Any]) -> Outcome:
    flags: list[str] = []
    for name, value in options.items():
        flag = f"--{name.rstrip('_').replace('_', '-')}"
        flags += [flag] if value is True else [flag, str(value)] if value not in (False, None) else []
    answer = hubcli(*command.split(), *arguments, *flags, "--json", cwd=cwd)
    failed = answer.document.get("failed") or []
    error = answer.document.get("error") or (failed[0]["error"] if failed else {})
    return Outcome(answer.code, error.get("id"), answer.document, answer.out + answer.err)


def _python(command: str, arguments: tuple[str, ...], cwd: Path | None, options: dict[str, Any]) -> Outcome:
    words = command.split()
    function = getattr(api, "_".join(words[:2]) if words[0] in GROUPS else words[0])
    said: list[str] = []
    if command in _TELLING:
        options["warn"] = said.append
    before = Path.cwd()
    os.chdir(cwd or before)
    try:
        document = function(*arguments, **options)
    except HubcliError as error:
        told = [error.message, error.cause or "", error.hint or ""]
        return Outcome(error.exit_code, error.id, {}, "\n".join([*said, *told]))
    finally:
        os.chdir(before)
    failed = document.get("failed") or []
    id = failed[0]["error"]["id"] if failed else None
    return Outcome(document.get("exit_code", 0), id, document, "\n".join([*said, str(document)]))


_TELLING = ("install", "upgrade", "verify", "sync", "lock", "search", "index update")


def threat(row: int, cases: Mapping[str, Any] | Iterable[Any] = ()) -> Callable[[Any], Any]:
    """A test of one row of the threat list, through both doors: ids `row13-cli`, or `row14-cli-endless` with `cases`.

    The test takes `door` and, with cases, `case`: the value of a mapping, or the item itself.
    """
    table = dict(cases) if isinstance(cases, Mapping) else {str(item): item for item in cases}
    names = ["door", "case"] if table else ["door"]
    rows = [
        pytest.param(*(Door(door), case)[: len(names)], id=f"row{row}-{door}{f'-{ascii(name)[1:-1]}' if table else ''}")
        for door in NAMES
        for name, case in (table or {"": None}).items()
    ]

    def decorate(function: Any) -> Any:
        function.threat = (row, tuple(str(param.id) for param in rows))
        return pytest.mark.parametrize(names, rows)(function)

    return decorate


def footprint(*roots: Path) -> dict[str, bytes | None]:
    """All files below the roots, by path, with their bytes (links: None).

    Views of indexes, lock files and the cache tag are left out: hubcli makes them where nothing else is made.
    """
    found = {}
    for root in roots:
        for path in sorted(root.rglob("*")):
            kept = not {"indexes", "locks"} & set(path.relative_to(root).parts) and path.name != "CACHEDIR.TAG"
            if kept and (path.is_symlink() or path.is_file()):
                found[str(path)] = None if path.is_symlink() else path.read_bytes()
    return found


def is_plain(text: str) -> bool:
    """No control or format character (categories C*) but the newline: nothing that moves a terminal's cursor."""
    return not [c for c in text if c != "\n" and unicodedata.category(c)[0] == "C"]
