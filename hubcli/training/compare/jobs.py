"""How many trainings of a comparison ran at once: what their seconds have to be read with. Kept beside the runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from hubcli import toml_file
from hubcli.training.compare.plan import BROKEN_OFF, Run

FILE = "jobs.json"


def read(folder: Path) -> dict[str, int]:
    """The name of a run -> how many trained at once, itself among them; those that nobody wrote down are not there."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: count for name, count in found.items() if isinstance(count, int)} if isinstance(found, dict) else {}


def write(folder: Path, runs: Iterable[Run], count: int) -> dict[str, int]:
    """Write it down of runs that are about to begin or to go on; what is known of all."""
    known = read(folder)
    known |= {run.name: max(count, known.get(run.name, 1) if run.state == BROKEN_OFF else 1) for run in runs}
    toml_file.write(folder / FILE, json.dumps(known, indent=2) + "\n")
    return known
