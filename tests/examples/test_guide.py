"""docs/plugins.md as it stands: its files are written out, installed by name, used and tested."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def files() -> dict[str, str]:
    """The fenced blocks that have a title, by it."""
    text = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    return dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', text, re.MULTILINE | re.DOTALL))


def test_the_method_is_short() -> None:
    parts = files()
    assert list(parts) == [
        "pyproject.toml",
        "hubcli_gain/__init__.py",
        "hubcli_gain/method.py",
        "use.py",
        "test_gain.py",
    ]
    assert sum(parts[name].count("\n") for name in parts if name.startswith("hubcli_gain")) < 60


@pytest.mark.slow
def test_the_guide_works(tmp_path: Path) -> None:
    parts = files()
    project = tomllib.loads(parts["pyproject.toml"])["project"]
    record = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    points = "".join(f"{key} = {value}\n" for key, value in project["entry-points"]["hubcli.plugins"].items())
    for name, content in {**parts, f"{record.name}/entry_points.txt": f"[hubcli.plugins]\n{points}"}.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for command in (["use.py"], ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_gain.py"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (tmp_path / "out" / "adapter.safetensors").is_file()
