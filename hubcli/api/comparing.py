"""compare: methods side by side, from one recipe."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli import toml_file
from hubcli.api.training import _needed
from hubcli.api.warned import told
from hubcli.api.workspace import Warn, Workspace
from hubcli.errors import HubcliError, UsageError
from hubcli.recipe import FULL, Recipe, made, read

if TYPE_CHECKING:
    from hubcli.training.compare.plan import Run

Json = dict[str, Any]
Say = Callable[[str], None]


def compare(
    recipe: str | Path | Mapping[str, Any],
    methods: Sequence[str] | None = None,
    *,
    seeds: int | Sequence[int] = 3,
    out: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    reference: str | None = None,
    jobs: int = 1,
    force: bool = False,
    dry_run: bool = False,
    offline: bool | None = None,
    token: str | None = None,
    warn: Warn | None = None,
    say: Say | None = None,
) -> Json:
    """Train one recipe with several methods and seeds, each in a process of its own, and put them side by side.

    The same call again finishes what was broken off and takes what is done as it is. A run that fails is told in `failed`;
    the others go on.

    Args:
        recipe: a TOML file, or its document (paths in it are then relative to the current folder). Its table `compare` says
            what is different for a method.
        methods: PEFT methods, or "full"; by default the recipe's own and those that `compare` names.
        seeds: the seeds, or how many, counted from the recipe's own.
        out: the folder; by default `runs/compare-<name>`. It gets a folder a run, compare.md, .json, .svg and .png.
        changes: what is different from the recipe for all: dotted key -> value.
        reference: the method that the others are compared to, seed by seed; by default "full" if it is there, else the first.
        jobs: how many trainings run at once.
        force: train anew what is there of another recipe or other data, and what is done.
        dry_run: check everything and list the runs; nothing is written.
        offline: True refuses the network; None asks the environment. token: for the person's own hub.
        warn: is told of doubts; say: is told a line as each run begins and ends.

    Returns:
        What compare.json says: schemas/cli/compare.schema.json.

    Raises:
        UsageError: E_RECIPE or E_DATA: what is wrong, and where; or the folder holds other runs. MethodNotFoundError: no such
        method. MissingExtraError: the extra `train`, or a method's own, is not installed. BusyError: another comparison is at
        work in the folder. HubcliError: no run came to its end.
    """
    from hubcli.api.models import python_warning

    found = read(recipe, changes) if isinstance(recipe, str | Path) else made(recipe, Path.cwd(), changes)
    named = str(Path(recipe).name) if isinstance(recipe, str | Path) else found.name or "recipe"
    folder = Path(out) if out is not None else _folder(found, recipe)
    if jobs < 1:
        raise UsageError(f"jobs: expected at least 1, found {jobs}")
    workspace = Workspace(offline=offline, token=token, warn=warn or python_warning)
    with told(warn or python_warning):
        _needed()
        runs, reference = _planned(found, methods, seeds, folder, reference, changes or {})
        runs = _found(runs, workspace, force=force)
        report = {"v": 1, "name": found.name, "recipe": named, "path": str(folder)}
        if dry_run:
            return {**report, "reference": reference, "runs": [_told(run, run.state) for run in runs], "failed": []}
        return _compared(found, runs, report, reference, workspace, jobs, say or (lambda text: None))


def _folder(recipe: Recipe, given: Any) -> Path:
    name = recipe.name or (None if isinstance(given, Mapping) else Path(given).stem)
    if name is None:
        raise UsageError("out=: a recipe without a name needs a folder for its runs")
    return Path("runs") / f"compare-{name.replace('/', '-')}"


def _planned(
    recipe: Recipe,
    methods: Sequence[str] | None,
    seeds: int | Sequence[int],
    folder: Path,
    reference: str | None,
    changes: Mapping[str, Any],
) -> tuple[list[Run], str]:
    from hubcli.training.compare import plan

    chosen = list(methods) if methods is not None else plan.methods_of(recipe)
    if methods is not None:
        plan.check_changes(changes, chosen)
    if isinstance(seeds, int):
        seeds = range(recipe.seed, recipe.seed + seeds)
    runs = plan.planned(recipe, chosen, seeds, folder)
    if reference is None:
        reference = FULL if FULL in chosen else chosen[0]
    if reference not in chosen:
        raise UsageError(f"reference: expected one of {', '.join(chosen)}, found {reference}")
    return runs, reference


def _found(runs: Sequence[Run], workspace: Workspace, *, force: bool) -> list[Run]:
    """The runs with what is there of them; bad data is told before anything trains."""
    from hubcli.training import examples
    from hubcli.training.compare import plan

    data = examples.load(runs[0].recipe, offline=workspace.offline or False, token=workspace.token)
    return [plan.found(run, data.files, force=force) for run in runs]


def _compared(
    recipe: Recipe, runs: Sequence[Run], report: Json, reference: str, workspace: Workspace, jobs: int, say: Say
) -> Json:
    from hubcli.training import run_folder
    from hubcli.training.compare import children, plan
    from hubcli.training.compare import jobs as at_once
    from hubcli.training.compare.table import table

    folder = Path(report["path"])
    left = [run for run in runs if run.state != plan.DONE]
    with children.locked(folder) as lock:
        teller = _Teller(left, say)
        if len(left) < len(runs):
            say(f"{len(runs) - len(left)} of {len(runs)} runs are done already")
        work = children.Children(
            jobs=jobs,
            arguments=["--offline"] if workspace.offline else [],
            environment=_environment(recipe, jobs, workspace),
            began=teller.began,
            ended=teller.ended,
            lock=lock,
        )
        shared = at_once.write(folder, left, min(jobs, len(left))) if left else at_once.read(folder)
        failed = work.run(left)
        failures = [{**_told(run, "failed"), "message": failed[run.name]} for run in runs if run.name in failed]
        done = [(run, run_folder.read(run.folder) or {}) for run in runs if run.name not in failed]
        if not done:
            first = failures[0]
            raise HubcliError("no run came to its end", cause=first["message"], hint=f"see {first['log']}")
        states = [
            {**_told(run, "failed" if run.name in failed else plan.DONE), "jobs": shared.get(run.name)} for run in runs
        ]
        methods = list(dict.fromkeys(run.method for run in runs))
        document = {**table(recipe, done, methods, reference), **report, "runs": states, "failed": failures}
        _write(document, folder)
    return document


def _environment(recipe: Recipe, jobs: int, workspace: Workspace) -> dict[str, str]:
    """Of the children: their share of the machine where the recipe leaves it open, and the token, which no command line has."""
    import os

    found = {"PYTHONUNBUFFERED": "1"}
    if jobs > 1 and recipe.train.threads is None and "OMP_NUM_THREADS" not in os.environ:
        found["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
    if isinstance(workspace.token, str):
        found["HF_TOKEN"] = workspace.token
    return found


def _told(run: Run, status: str) -> Json:
    return {
        "method": run.method,
        "seed": run.seed,
        "status": status,
        "path": str(run.folder),
        "log": str(run.log),
        "recipe_sha256": run.recipe.digest(),
    }


def _write(document: Json, folder: Path) -> None:
    """Pictures first, the JSON last: each appears whole, in the place of what was there."""
    from hubcli.api.compare_page import page
    from hubcli.training.compare.picture import picture

    with tempfile.TemporaryDirectory(prefix=".compare-", dir=folder) as made_in:
        for name in picture(document, Path(made_in)):
            (Path(made_in) / name).replace(folder / name)
    toml_file.write(folder / "compare.md", page(document))
    toml_file.write(folder / "compare.json", json.dumps(document, indent=2, ensure_ascii=False) + "\n")


class _Teller:
    """A line as a run begins and one as it ends, with what is left."""

    def __init__(self, runs: Sequence[Run], say: Say):
        self.places = {run.name: place for place, run in enumerate(runs, 1)}
        self.say, self.ends, self.begin = say, 0, time.monotonic()

    def began(self, run: Run) -> None:
        """It has its process."""
        how = f", {run.state} before: it goes on" if run.state != "new" else ""
        self.say(f"[{self.places[run.name]}/{len(self.places)}] {run.method}, seed {run.seed}{how}: {run.log}")

    def ended(self, run: Run, why: str | None, seconds: float) -> None:
        """Done, or failed."""
        self.ends += 1
        left = (time.monotonic() - self.begin) / self.ends * (len(self.places) - self.ends)
        rest = f"; about {_clock(left)} left" if self.ends < len(self.places) else ""
        what = f"done in {_clock(seconds)}" if why is None else f"failed: {why} (see {run.log})"
        self.say(f"[{self.places[run.name]}/{len(self.places)}] {run.method}, seed {run.seed}: {what}{rest}")


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
