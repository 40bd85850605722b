"""The folder of a run: the exact recipe, what was measured, versions and hashes, the adapter, and checkpoints on the way.

recipe.toml     the recipe with every default filled in
run.json        what `hubcli train --json` prints; `status` is running or done
metrics.jsonl   a line every few steps and after each evaluation
loss.svg, .png  both curves
adapter/        or model/, of a full fine-tuning: there once it is whole
checkpoints/    while it trains
.lock           while a process is at work
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from hubcli import recipe as recipes
from hubcli import toml_file
from hubcli._version import __version__
from hubcli.errors import IntegrityError, NotFoundError, UsageError
from hubcli.recipe import PARTS, Recipe
from hubcli.training.arguments import CHECKPOINTS
from hubcli.training.callbacks import whole
from hubcli.training.run_lock import LOCK

Json = dict[str, Any]
RUN, RECIPE, V = "run.json", "recipe.toml", 1
RUNNING, DONE = "running", "done"
# what a run's folder may hold: what is listed above, and what a kill can leave of it
OWN = re.compile(
    r"recipe\.toml|run\.json|metrics\.jsonl|\.lock|loss\.(svg|png)|checkpoints|\.?(adapter|model)(-\w+)?|.*\.tmp"
)
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "bitsandbytes")


def check(folder: Path, recipe: Recipe, *, resume: bool, force: bool) -> Json | None:
    """Whether a run of this recipe may go there; what its run.json says, where there is one.

    Raises:
        UsageError: there is a run already and neither `resume` nor `force` is asked for; or it is another recipe's; or there
            is what no run has written.
        NotFoundError: there is nothing to resume.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"{folder} is no folder: nothing is written over it")
    found = read(folder)
    if resume:
        if found is None:
            raise NotFoundError(f"{folder}: no run to resume", hint="leave --resume out")
        if not same(folder, recipe):
            raise UsageError(
                f"{folder} is the run of another recipe",
                hint=f"hubcli train {folder / RECIPE} --out {folder} --resume, or give another --out",
            )
        return found
    there = _content(folder)
    if not there:
        return None
    if found is None and not (force and RECIPE in there):
        raise UsageError(f"{folder} is not empty, and holds no run", hint="choose another --out")
    foreign = sorted(name for name in there if not OWN.fullmatch(name))
    if foreign:
        raise UsageError(f"{folder} holds what is no part of a run: {', '.join(foreign)}", hint="choose another --out")
    if found is not None and not force:
        more = "--resume goes on with it, --force" if found["status"] == RUNNING else "--force"
        raise UsageError(f"{folder} holds a run ({found['status']})", hint=f"{more} starts anew, or give another --out")
    return found


def _content(folder: Path) -> set[str]:
    """The names in it, but for what is there before a run begins: the lock, and the folder that a Trainer makes."""
    found = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    made = found.get(CHECKPOINTS)
    empty = made is not None and made.is_dir() and not any(made.iterdir())
    return found.keys() - {LOCK, *([CHECKPOINTS] if empty else [])}


def same(folder: Path, recipe: Recipe) -> bool:
    """Whether a folder's run is of this recipe: the same is said, whatever has a default since then."""
    file = folder / RECIPE
    if not file.is_file():  # killed while the folder was made ready
        return (read(folder) or {}).get("recipe_sha256") == recipe.digest()
    try:
        return _deciding(recipes.read(file)) == _deciding(recipe)
    except UsageError:
        return False


def begin(folder: Path, recipe: Recipe, made_of: Json) -> None:
    """An empty run: what was there before goes. `check` has allowed it.

    The folder is a run's at every moment: run.json comes first, the recipe, which says that it is ready, last.

    Args:
        made_of: what of the run's data and models is compared when it is resumed.
    """
    (folder / RECIPE).unlink(missing_ok=True)
    write(folder, {"v": V, "status": RUNNING, "recipe_sha256": recipe.digest(), **made_of})
    for path in folder.iterdir():
        if path.name not in (RUN, LOCK):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    toml_file.write(folder / RECIPE, written(recipe))


def ready(folder: Path) -> bool:
    """Whether `begin` came to its end there."""
    return (folder / RECIPE).is_file()


def check_same(folder: Path, there: Json, made_of: Json) -> None:
    """Refuse to go on with other data or models than a run began with.

    Args:
        there: what its run.json says; what an earlier hubcli has not written down is not compared. made_of: as `begin`.

    Raises:
        IntegrityError: names what is different.
    """
    other = [key for key, value in made_of.items() if key in there and not alike(there[key], value)]
    if other:
        raise IntegrityError(
            f"{folder} was begun with another {', another '.join(other)}: the run can't go on",
            hint="bring back what it began with, or --force to train anew",
        )


def alike(there: Any, now: Any) -> bool:
    """Whether what a run has written of its data or models is true now, wherever they lie; no more than that is compared."""
    if isinstance(there, dict) and isinstance(now, dict):
        return all(key in ("path", "id") or alike(value, now.get(key)) for key, value in there.items())
    if isinstance(there, list) and isinstance(now, list | tuple):
        return len(there) == len(now) and all(map(alike, there, now))
    return bool(there == now)


def sweep(folder: Path) -> None:
    """Take away what a kill left of files and folders that were about to be put in place."""
    for path in (*folder.glob(".adapter-*"), *folder.glob(".model-*")):
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob("*.tmp"):
        path.unlink(missing_ok=True)


def read(folder: Path) -> Json | None:
    """What run.json says; None where there is none.

    Raises:
        UsageError: it is not a run's, or a newer hubcli's.
    """
    file = folder / RUN
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        known = found["v"] == V and found["status"] in (RUNNING, DONE) and isinstance(found["recipe_sha256"], str)
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise UsageError(f"{file}: expected a run of version {V}, found something else")
    return dict(found)


def write(folder: Path, document: Json) -> None:
    """Put run.json in place."""
    toml_file.write(folder / RUN, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; those that were cut short are taken away."""
    found = []
    for path in (folder / CHECKPOINTS).glob("checkpoint-*"):
        if whole(path):
            found.append(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def versions() -> Json:
    """What decides the last digits beside the recipe."""
    found = {
        "hubcli": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def peak_memory() -> int | None:
    """The most memory of the machine that this process had, in bytes, none of a GPU's; None where the system doesn't tell."""
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most * 1024)


def written(recipe: Recipe) -> str:
    """The recipe as TOML with every default filled in; paths are those of the file it came from."""
    import tomli_w

    return tomli_w.dumps(_said(_rooted(recipe)))


def _deciding(recipe: Recipe) -> Json:
    """What of a recipe decides the result: a name, and what an index is to say, do not."""
    return {key: value for key, value in _said(_rooted(recipe)).items() if key not in ("name", "release", "compare")}


def _rooted(recipe: Recipe) -> Json:
    """The document with relative paths made absolute: the run's folder is another one than the recipe's."""
    document = recipe.document()
    data = document["data"]
    for part in PARTS:
        data[part] = [str(recipe.place(path)) for path in data[part]]
    document["data"] = {
        key: value for key, value in data.items() if value != []
    }  # said as a recipe says it: not at all
    if document["train"]["max_steps"] is not None:
        del document["train"]["epochs"]
    for table, key in (("base", "id"), ("base", "tokenizer"), ("data", "dataset")):
        given = document[table].get(key)
        if given is not None and recipe.place(given).is_dir():
            document[table][key] = str(recipe.place(given))
    document["method"]["adapters"] = {
        name: str(recipe.place(ref)) if recipe.place(ref).is_dir() else ref
        for name, ref in document["method"]["adapters"].items()
    }
    return document


def _said(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _said(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if inner not in (None, {})}
    return [_said(inner) for inner in value] if isinstance(value, list | tuple) else value
