"""Methods in packages outside the core: installed by pip, found by name, and right, with no change in hubcli."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", sorted(folder.name.removeprefix("hubcli-") for folder in (ROOT / "examples").glob("hubcli-*"))
)
def test_the_package_installs_and_conforms(method: str, tmp_path: Path) -> None:
    package = str(ROOT / "examples" / f"hubcli-{method}")
    options = [
        "--no-deps",
        "--no-build-isolation",
        "--disable-pip-version-check",
        "-q",
        "--target",
        str(tmp_path / "site"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, package], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    listed = subprocess.run(
        [sys.executable, "-m", "hubcli", "plugins", "list", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f'"{method}"' in listed.stdout, listed.stderr
    checks = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / f"{method}_checks.py")]
    done = subprocess.run(checks, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
