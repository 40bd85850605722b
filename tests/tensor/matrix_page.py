"""Writes docs/matrix.md from a run of the checks: `python -m tests.tensor.matrix_page`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hubcli.testing import TINY
from tests.tensor.matrix import COMPOSITIONS, KINDS, LIMIT, Cell, kinds, run

PAGE = Path(__file__).parents[2] / "docs" / "matrix.md"
HEAD = f"""# What goes with what

<!-- Written by `python -m tests.tensor.matrix_page`; a test holds that it is current. -->

Every method under every composition on every family of models. ✓ is a check that ran: a tiny random model of the family with two
random adapters gave, in float64, the same as a slow reference that adds each adapter's delta by plain hooks, or runs each row and
each child on its own; the largest difference is at most {LIMIT:.0e}, and the adapters move the output. A number is a refusal, by the
error's id and words below the table (… stands for a module's name). A refusal by sizes is CLIP's, whose text and image differ in
length. The families are the smallest models of their classes in transformers, with 2 layers.

The tests: `tests/tensor/matrix.py` makes this page, `tests/tensor/test_property.py` does the same for random trees of all methods
mixed, `tests/tensor/test_architectures.py` holds where each family keeps its parts.
"""
Cells = Mapping[tuple[str, str, str], Cell]


def general(cell: Cell) -> Cell:
    """A refusal without the names of one model's class and modules, and of the expression at its end."""
    words = re.sub(r"\bthis [A-Z]\w+", "this model", re.sub(r"\w+(\.\w+){2,}", "…", cell.words))
    return cell._replace(words=re.sub(r": (\w+\(|rows=).*\Z", "", words))


def table(kind: str, cells: Cells, families: Sequence[str]) -> list[str]:
    """One kind: families down, compositions across; then the refusals by number."""
    refusals: dict[Cell, int] = {}
    lines = ["| family | " + " | ".join(COMPOSITIONS) + " |", "| --- |" + " :-: |" * len(COMPOSITIONS)]
    for family in families:
        row = [general(cells[kind, family, name]) for name in COMPOSITIONS]
        marks = ["✓" if not cell.refused else str(refusals.setdefault(cell, len(refusals) + 1)) for cell in row]
        lines.append(f"| {family} ({TINY[family][0]}) | " + " | ".join(marks) + " |")
    notes = [f"{number}. `{cell.refused}`: {cell.words}" for cell, number in refusals.items()]
    return [*lines, "", *notes]


def sections(cells: Cells) -> Iterator[str]:
    """A heading and a table for each kind."""
    for kind in kinds():
        yield f"\n## {kind}\n\n{KINDS[kind].says}.\n"
        yield from table(kind, cells, tuple(TINY))


def page(cells: Cells | None = None) -> str:
    """The page's text."""
    found = run() if cells is None else cells
    held = sum(not cell.refused for cell in found.values())
    summary = f"\n{len(found)} checks: {held} hold, {len(found) - held} are refused by name.\n"
    return (HEAD + summary + "\n".join(sections(found))).rstrip() + "\n"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    PAGE.write_text(page(), encoding="utf-8")
