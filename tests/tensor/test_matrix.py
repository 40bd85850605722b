"""The page of what goes with what is what the checks find."""

from __future__ import annotations

import pytest

from .matrix import kinds, run
from .matrix_page import PAGE, page, table

pytestmark = pytest.mark.filterwarnings("ignore")
FAST = ("bert", "gpt2", "t5")


def test_the_checks_of_some_families_are_on_the_page() -> None:
    """The marks of each line; the numbers of refusals are the whole page's."""
    cells, shown = run(FAST), PAGE.read_text(encoding="utf-8").split("\n## ")
    for kind in kinds():
        own = next(part for part in shown if part.startswith(f"{kind}\n")).splitlines()
        for line in table(kind, cells, FAST):
            if line.startswith(FAST) or line.startswith("| family"):
                assert any(known.startswith(line.split(" | ")[0]) for known in own)
            if "✓" in line:
                marks = next(known for known in own if known.split(" | ")[0] == line.split(" | ")[0])
                assert [m == "✓" for m in marks.split(" | ")[1:]] == [m == "✓" for m in line.split(" | ")[1:]], line


@pytest.mark.slow
def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.tensor.matrix_page"
