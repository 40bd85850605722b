"""The commands of docs/plugins.md: its package is written out as it stands there, and installed by pip.

That it works, conforms and is short is held by tests/examples/test_guide.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.console import ROOT, Shell, steps
from tests.examples.test_guide import files

GUIDE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_commands_work(tmp_path: Path) -> None:
    for name, content in files().items():
        file = tmp_path / "hubcli-gain" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    site = tmp_path / "site"
    environment = {"HUBCLI_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": f"{site}:{ROOT}"}
    environment |= {
        "PIP_TARGET": str(site),
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    with Shell(tmp_path, environment, {}) as shell:
        printed = [shell.run(step) for step in steps(GUIDE)]
    assert "gain" in printed[1]
