"""docs/publishing.md as it stands: each command runs, in order, from an empty home, and prints what the page shows."""

from __future__ import annotations

import re

import pytest

from tests.docs.console import ROOT, Shell, steps

GUIDE = (ROOT / "docs" / "publishing.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.slow


def test_the_commands_and_the_python_work(shell: Shell) -> None:
    for step in steps(GUIDE):
        shell.run(step)
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)):
        shell.python(f"block{number}.py", block)
