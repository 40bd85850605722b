"""Writes docs/threats.md from the rows and the tests of this folder: `python -m tests.threats.page`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from tests.threats.doors import NAMES
from tests.threats.rows import ROWS, Row

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "threats.md"
MODULES = ("entries", "downloads", "formats", "registries", "crashes", "store", "commands")
HEAD = """# Threats and faults

<!-- Written by `python -m tests.threats.page`; a test holds that it is current. -->

What may be tried against hubcli or go wrong under it, what stands against it, and the tests. Those of `tests/threats` run
through the command line and through Python, and expect the same error id from both (`pytest tests/threats -k row13-` runs
one row); the others go deeper into one module.

"""


class Driven(NamedTuple):
    """A test of a row: its name as pytest takes it, and the ids of its parameters."""

    name: str
    ids: tuple[str, ...]


@cache
def driven() -> dict[int, list[Driven]]:
    """The tests of this folder by row."""
    found: dict[int, list[Driven]] = {}
    for module in MODULES:
        for name, function in vars(import_module(f"tests.threats.test_threat_{module}")).items():
            row, ids = getattr(function, "threat", (None, ()))
            if row is not None and inspect.isfunction(function):
                found.setdefault(row, []).append(Driven(f"tests/threats/test_threat_{module}.py::{name}", ids))
    return found


@cache
def elsewhere() -> dict[str, str]:
    """Each test function outside this folder: `test_file::test_name` (or the name alone, where it is one of a kind) → file."""
    found: dict[str, str] = {}
    for file in sorted(ROOT.glob("tests/**/test_*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body if file.parent.name != "threats" else ():
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[f"{file.stem}::{node.name}"] = str(file.relative_to(ROOT))
    alone = [key.partition("::")[2] for key in found]
    return found | {
        key.partition("::")[2]: file for key, file in found.items() if alone.count(key.partition("::")[2]) == 1
    }


def status(number: int, row: Row) -> str:
    """covered, partly, not covered yet, or out of scope."""
    if row.out_of_scope:
        return "out of scope"
    if number not in driven() and not row.also:
        return "not covered yet"
    return "partly" if row.missing else "covered"


def _section(number: int, row: Row) -> Iterator[str]:
    yield f"## {number}. {row.attack}\n"
    yield f"*{status(number, row)}*" + (f" · {row.where}" if row.where else "") + "\n"
    if row.defence:
        yield f"{row.defence}\n"
    for test in driven().get(number, []):
        cases = len(test.ids) // len(NAMES)
        shown = ", ".join(f"`{id}`" for id in (test.ids if cases == 1 else (test.ids[0], test.ids[-1])))
        yield f"- `{test.name}`: {shown}" + (f" ({len(test.ids)} in all)" if cases > 1 else "")
    for name in row.also:
        yield f"- `{elsewhere()[name]}::{name.rpartition('::')[2]}`"
    if number in driven() or row.also:
        yield ""


def page() -> str:
    """The page's text."""
    lines = [line for number, row in ROWS.items() for line in _section(number, row)]
    gaps = [
        f"- **{number}.** {row.attack} {row.missing or row.defence}" for number, row in ROWS.items() if _is_gap(row)
    ]
    counted = {word: sum(status(n, row) == word for n, row in ROWS.items()) for word in STATUS}
    summary = ", ".join(f"{count} {word}" for word, count in counted.items())
    return (
        HEAD
        + f"{len(ROWS)} rows: {summary}.\n\n## What is not covered yet\n\n"
        + "\n".join([*gaps, "", *lines]).rstrip()
        + "\n"
    )


STATUS = ("covered", "partly", "not covered yet", "out of scope")


def _is_gap(row: Row) -> bool:
    return bool(row.missing) or row.out_of_scope


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
