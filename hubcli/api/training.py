"""train: an adapter from a recipe."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hubcli.api.warned import told
from hubcli.api.workspace import Warn, Workspace
from hubcli.errors import MissingExtraError, UsageError
from hubcli.recipe import Recipe, made, read
from hubcli.recipe_template import template

Json = dict[str, Any]


class BrokenOff(KeyboardInterrupt):
    """Ctrl-C while `train` was at work; `hint` says how the run goes on."""

    def __init__(self, hint: str) -> None:
        super().__init__(hint)
        self.hint = hint


def train(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    resume: bool = False,
    force: bool = False,
    keep_checkpoints: bool = False,
    dry_run: bool = False,
    offline: bool | None = None,
    token: str | None = None,
    warn: Warn | None = None,
    say: Callable[[str], None] | None = None,
    bar: bool = False,
) -> Json:
    """Train an adapter, a fusion, or the whole model, as a recipe says.

    Args:
        recipe: a TOML file, or its document (paths in it are then relative to the current folder).
        out: the run's folder; by default `runs/<name>` in the current folder for a recipe with a name, else `runs/<file>`;
            of a recipe that a run has written, that run's folder.
        changes: what is different from the recipe: dotted key -> value, e.g. {"train.epochs": 1}; None takes a key away.
        resume: go on with a run that was broken off; one that is done is left as it is.
        force: replace a run that is there.
        keep_checkpoints: leave the checkpoints in the run's folder.
        dry_run: check recipe and data, load nothing, write nothing.
        offline: True refuses the network; None asks the environment. token: for the person's own hub.
        warn: is told of doubts; say: is told a line after each evaluation. bar: show a bar on a terminal.

    Returns:
        What the run's run.json says: schemas/cli/train.schema.json.

    Raises:
        UsageError: E_RECIPE or E_DATA: what is wrong, and where. NotFoundError: no such recipe, file or adapter.
        MissingExtraError: the extra `train` is not installed. HubcliError: as load_adapter and Adapted.add.
        BrokenOff: a KeyboardInterrupt that says how the run goes on.
    """
    from hubcli.api.models import python_warning

    found = read(recipe, changes) if isinstance(recipe, str | Path) else made(recipe, Path.cwd(), changes)
    folder = Path(out) if out is not None else _folder(found, recipe)
    if resume and force:
        raise UsageError("resume= and force= exclude each other")
    workspace = Workspace(offline=offline, token=token, warn=warn or python_warning)
    access: Json = {"offline": workspace.offline or False, "token": workspace.token}
    with told(warn or python_warning), _broken_off(folder, resume=resume, force=force):
        if dry_run:
            return _checked(found, folder, access)
        _needed()
        from hubcli.api.models import locating
        from hubcli.training.train import train as trained

        return trained(
            found,
            folder,
            resume=resume,
            force=force,
            keep_checkpoints=keep_checkpoints,
            locate=locating(workspace),
            say=say,
            bar=bar,
            **access,
        )


def train_init(file: str | Path, *, force: bool = False, dry_run: bool = False) -> Json:
    """Write a recipe with a comment on every key.

    Raises:
        UsageError: the file is there already and `force` is not given.
    """
    from hubcli import toml_file

    path, text = Path(file), template()
    if path.exists() and not force:
        raise UsageError(f"{path} exists", hint="--force replaces it")
    if not dry_run:
        toml_file.write(path, text)
    return {"path": str(path), "written": not dry_run}


@contextlib.contextmanager
def _broken_off(folder: Path, *, resume: bool, force: bool) -> Iterator[None]:
    """Ctrl-C with the one thing that can be done after it: a run is there from its first file on."""
    before = _stamp(folder)
    try:
        yield
    except KeyboardInterrupt as stop:
        if resume:
            hint = "the same command goes on from the last checkpoint"
        elif _stamp(folder) == before:
            hint = "nothing was begun: run the same command again"
        else:
            how = "with --resume in the place of --force" if force else "with --resume"
            hint = f"the same command {how} goes on from the last checkpoint"
        raise BrokenOff(hint) from stop


def _stamp(folder: Path) -> list[tuple[int, int] | None]:
    """What changes once a run is begun: its first file and its last."""
    return [_put(folder / name) for name in ("run.json", "recipe.toml")]


def _put(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _folder(recipe: Recipe, given: Any) -> Path:
    if (
        not isinstance(given, Mapping)
        and Path(given).name == "recipe.toml"
        and (Path(given).parent / "run.json").is_file()
    ):
        return Path(given).parent  # a run's own recipe
    if recipe.name is not None:
        return Path("runs") / recipe.name
    if isinstance(given, Mapping):
        raise UsageError("out=: a recipe without a name needs a folder for its run")
    return Path("runs") / Path(given).stem


def _needed() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("accelerate", "sklearn", "scipy", "matplotlib") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"train needs {', '.join(missing)}, not installed here", hint="pip install 'hubcli[train]'"
        )


def _checked(recipe: Recipe, folder: Path, access: Json) -> Json:
    """What a dry run says: the data as it would be used."""
    from hubcli.training import early, examples

    found = examples.load(recipe, **access)
    early.check(recipe, found.labels, found.parts)
    return {
        "status": "checked",
        "name": recipe.name,
        "path": str(folder),
        "recipe_sha256": recipe.digest(),
        "task": recipe.task,
        "method": recipe.method.name,
        "base": {"id": recipe.base.id},
        "seed": recipe.seed,
        "labels": list(found.labels),
        "rows": {part: len(rows) for part, rows in found.parts.items()},
        "data": list(found.files),
    }
