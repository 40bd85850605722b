"""Start-up: what a command costs before it has done anything, against an empty Python and against `hf`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import PROGRAMS, Process, Result, environment, ratio, rounds_of

ADAPTER = "sentiment/bert-lora"
PYTHON, HF = "`python -c pass`", "`hf --help`"
BARS: dict[str, tuple[str, float | None]] = {
    "--version": (PYTHON, 2.5),
    "--help": (PYTHON, 6.0),
    "list": (HF, 1 / 3),
    "search sentiment": (HF, 1 / 3),
    f"info {ADAPTER}": (HF, None),
    "verify": (HF, None),
}


def run(rounds: int, seed: int) -> Result:
    """Measure with a home folder that has the bundled adapter installed."""
    result = Result("startup", rounds, seed)
    with tempfile.TemporaryDirectory() as folder:
        settings = environment(HUBCLI_HOME=str(Path(folder) / "home"), HF_HOME=str(Path(folder) / "hf"), HOME=folder)
        hubcli = str(PROGRAMS / "hubcli")
        subprocess.run([hubcli, "install", ADAPTER, "--quiet"], env=settings, check=True, capture_output=True)
        commands = {PYTHON: [sys.executable, "-c", "pass"], HF: [str(PROGRAMS / "hf"), "--help"]}
        commands |= {text: [hubcli, *text.split()] for text in BARS}
        processes = {name: Process(argv, lambda: settings).cpu_ms for name, argv in commands.items()}
        times = rounds_of(processes, rounds, seed)
    for text, (against, bar) in BARS.items():
        result.rows.append(ratio(f"`hubcli {text}`", times[text], against, times[against], bar))
    result.rows.append(ratio(HF, times[HF], PYTHON, times[PYTHON]))
    return result
