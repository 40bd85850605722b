"""The one recipe that is trained in every run of the slow tests: it takes a minute, and its data comes with scikit-learn."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def stated() -> dict[str, float]:
    """The lower end of the interval that recipes/README.md gives for each of the two."""
    text = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"`(vit-\w+)`\)[^(]*\(0\.\d+, ([0-9.]+) to", text)
    return {name: float(low) for name, low in found}


@pytest.mark.slow
def test_the_digits_reach_what_the_page_states(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recipes.digits", "--out", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert set(stated()) == {"vit-low", "vit-high"}
    for name, low in stated().items():
        report = json.loads((tmp_path / name / "run.json").read_text(encoding="utf-8"))
        accuracy = {m["split"]: m["value"] for m in report["metrics"] if m["name"] == "accuracy"}
        assert accuracy["test"] >= low, name
