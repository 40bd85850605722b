"""Which trainings a comparison is made of: a recipe for each method and seed, and what is there of it already."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hubcli.errors import UsageError
from hubcli.plugins import plugins
from hubcli.recipe import FULL, Recipe, made
from hubcli.training import early, run_folder

Json = dict[str, Any]
NEW, BROKEN_OFF, DONE = "new", "broken off", "done"


@dataclass(frozen=True, slots=True)
class Run:
    """One training. `text` is its recipe as TOML with every default filled in, `state` what was found of it."""

    method: str
    seed: int
    recipe: Recipe
    folder: Path
    text: str
    state: str = NEW

    @property
    def name(self) -> str:
        """Also of its folder, its recipe and its log."""
        return f"{self.method}-{self.seed}"

    @property
    def file(self) -> Path:
        """Its recipe, beside its folder."""
        return self.folder.with_name(f"{self.name}.toml")

    @property
    def log(self) -> Path:
        """What its process says."""
        return self.folder.with_name(f"{self.name}.log")


def methods_of(recipe: Recipe) -> list[str]:
    """What is compared where nobody says otherwise: the recipe's own method, then those that it says more about."""
    return list(dict.fromkeys([recipe.method.name, *recipe.compare]))


def planned(recipe: Recipe, methods: Sequence[str], seeds: Sequence[int], folder: Path) -> list[Run]:
    """Every run, method by method; nothing is written.

    Raises:
        UsageError: E_RECIPE: a key or a value that a method can't have. MethodNotFoundError, PluginError: no such method.
        MissingExtraError: a method needs a package that is not installed.
    """
    for word, given in (("method", methods), ("seed", seeds)):
        if not given or len(set(given)) != len(given):
            raise UsageError(f"expected at least one {word}, each once; found {', '.join(map(str, given)) or 'none'}")
    _check_named(recipe.compare, methods)
    recipes = {method: recipe_of(recipe, method) for method in methods}
    return [_run(recipes[method], seed, folder) for method in methods for seed in seeds]


def _check_named(given: Iterable[str], methods: Sequence[str]) -> None:
    """Refuse what is said of a method that there is none of; one that is left out of this comparison may be spoken of."""
    known = {FULL, *methods, *(plugin.name for plugin in plugins().of_kind("method"))}
    for name in sorted(set(given) - known):
        close = difflib.get_close_matches(name, sorted(known), 1)
        hint = f"did you mean 'compare.{close[0]}'?" if close else f"there are {', '.join(sorted(known))}"
        raise UsageError(f"compare.{name}: no method {name}", id="E_RECIPE", hint=hint)


def check_changes(changes: Iterable[str], methods: Sequence[str]) -> None:
    """Refuse a change of what the recipe says of a method that is not compared: it would do nothing.

    Args:
        changes: dotted keys.

    Raises:
        UsageError: E_RECIPE, names the key.
    """
    named = {key: key.split(".")[1] for key in changes if key.startswith("compare.")}
    _check_named(named.values(), methods)
    for key, name in named.items():
        if name not in methods:
            hint = f"methods (--methods) with {name} among them"
            raise UsageError(f"{key}: {name} is not compared, only {', '.join(methods)}", id="E_RECIPE", hint=hint)


def recipe_of(recipe: Recipe, method: str) -> Recipe:
    """The recipe with another method in the place of its own, and with what `compare.METHOD` says is different for it.

    The recipe's own method keeps its config; another begins with its own defaults. Paths are absolute.

    Raises:
        UsageError, MethodNotFoundError, PluginError, MissingExtraError: as `planned`.
    """
    document = tomllib.loads(run_folder.written(recipe))
    change = document.pop("compare", {}).get(method, {})
    own = document["method"]
    if method != recipe.method.name:
        own = {key: own[key] for key in ("head", "save_dtype") if key in own and method != FULL}
    config = {**own.get("config", {}), **change.get("config", {})}
    rest = {key: change[key] for key in ("head", "quantize") if key in change}
    document["method"] = {**own, "name": method, **({"config": config} if config else {}), **rest}
    document["train"] = _trained(document.get("train", {}), change.get("train", {}))
    found = made(document, recipe.folder, where=f"compare.{method}")
    early.check_method(found, where=f"compare.{method}")
    return found


def _trained(own: Mapping[str, Any], change: Mapping[str, Any]) -> Json:
    """How long it takes is said once: by epochs or by steps, whichever the change names."""
    drop = {"epochs": "max_steps", "max_steps": "epochs"}
    gone = {drop[key] for key in change if key in drop}
    return {**{key: value for key, value in own.items() if key not in gone}, **change}


def _run(recipe: Recipe, seed: int, folder: Path) -> Run:
    document = {**tomllib.loads(run_folder.written(recipe)), "seed": seed}
    found = made(document, recipe.folder)
    method = found.method.name
    return Run(method, seed, found, folder / f"{method}-{seed}", run_folder.written(found))


def found(run: Run, data: Sequence[Json], *, force: bool) -> Run:
    """The run with the state of what is in its folder.

    Args:
        data: the files that would be read now, as `Examples.files`. force: what is there may be replaced.

    Raises:
        UsageError: the folder holds another recipe's run, or a run on other data, and `force` is not given.
    """
    there = run_folder.read(run.folder)
    if there is None or force:
        return run
    other = "another recipe" if not run_folder.same(run.folder, run.recipe) else None
    if other is None and "data" in there and not run_folder.alike(there["data"], list(data)):
        other = "other data"
    if other is not None:
        raise UsageError(f"{run.folder} is a run of {other}", hint="give another --out, or --force to train it anew")
    return replace(run, state=DONE if there["status"] == run_folder.DONE else BROKEN_OFF)
