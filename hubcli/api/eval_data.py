"""The rows that eval reads: of files, or of a recipe, labelled as an adapter does; and what is told of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli import recipe as recipes
from hubcli.api.workspace import Workspace
from hubcli.errors import NotFoundError, UsageError
from hubcli.frozen import frozen
from hubcli.paths import expanded
from hubcli.recipe import Recipe

if TYPE_CHECKING:
    from hubcli.training.examples import Examples

Json = dict[str, Any]
WAYS = {
    "data.format": "format (--format)",
    "train.max_length": "max_length (--max-length)",
    "train.max_answer": "max_answer (--max-answer)",
}


@frozen
class Wish:
    """What a person said about the data and how it is judged; None where nothing was said."""

    files: tuple[str, ...]
    recipe: str | None
    part: str
    dataset: str | None
    columns: Json
    format: str | None
    map: Json
    limit: int | None
    seed: int | None
    batch_size: int
    max_length: int | None
    max_answer: int | None
    exact_match: bool | None
    task: str | None


def check(wish: Wish) -> None:
    """Refuse what can be refused before anything is loaded.

    Raises:
        UsageError, NotFoundError: as `eval`.
    """
    if bool(wish.files) == bool(wish.recipe):
        found = "both" if wish.recipe else "neither"
        raise UsageError(f"expected either data (--data FILE) or a recipe (--recipe), found {found}")
    if wish.part not in recipes.PARTS:
        raise UsageError(f"part: expected {', '.join(recipes.PARTS)}, found {wish.part!r:.40}")
    if wish.part != "test" and not wish.recipe:
        raise UsageError(f"part='{wish.part}': it is for a recipe; a file's rows are all read")
    if wish.task is not None and wish.task not in recipes.COLUMNS:
        raise UsageError(f"task: expected {', '.join(recipes.COLUMNS)}, found {wish.task!r:.40}")
    for name in ("limit", "batch_size", "max_length", "max_answer"):
        number = getattr(wish, name)
        if number is not None and number < 1:
            raise UsageError(f"{name}: expected at least 1, found {number}")
    for file in wish.files:
        if not expanded(file).is_file():
            raise NotFoundError(f"no file {file}")
    if wish.recipe:
        recipes.read(wish.recipe)


def base_options(wish: Wish, given: Mapping[str, Any]) -> Json:
    """How the base is loaded: as a person says, else as the recipe's training loads it, which is on what its figures were."""
    if wish.recipe is None:
        return dict(given)
    from hubcli.quantised import wanted

    recipe = recipes.read(wish.recipe)
    own = {"dtype": recipe.base.dtype, "device": recipe.base.device, "quantize": wanted(recipe)}
    return {key: own.get(key) if value is None else value for key, value in given.items()}


def rows(
    wish: Wish, task: str, labels: tuple[str, ...], base: str | None, workspace: Workspace
) -> tuple[Recipe, Examples]:
    """The recipe behind the data, with the seed of the intervals, and its rows, labelled as the adapter does.

    What a recipe cuts from train is cut by its own seed, whatever `wish.seed` is: else rows that were trained on would be among
    those that are measured.

    Raises:
        UsageError: E_DATA, E_RECIPE.
    """
    from hubcli.training.examples import load

    recipe = recipes.read(wish.recipe) if wish.recipe else _made(wish, task, base)
    data, part = recipe.data, wish.part
    unknown = sorted(set(wish.map.values()) - set(labels))
    if unknown:
        raise UsageError(
            f"label_map: expected labels of the adapter ({', '.join(labels) or 'none'}), found {unknown[0]!r:.80}"
        )
    data = replace(
        data,
        columns={**data.columns, **wish.columns},
        format=wish.format or data.format,
        map={**data.map, **wish.map},
        labels=labels,
        limit=data.limit if wish.limit is None else {**data.limit, part: wish.limit},
    )
    recipe = replace(recipe, data=data)
    with own_words():
        found = load(
            recipe,
            only=part,
            labels=labels,
            seed=wish.seed if wish.limit is not None else None,
            offline=workspace.offline or False,
            token=workspace.token,
        )
    return replace(recipe, seed=recipe.seed if wish.seed is None else wish.seed), found


def compares(wish: Wish, recipe: Recipe) -> bool:
    """Whether answers are generated and compared: as a person says, else as the recipe or the task does.

    Raises:
        UsageError: the rows have no answers to compare with; or a length of answers that nobody generates.
    """
    from hubcli.training.early import has_answers

    wanted = recipe.train.metric if wish.recipe else None
    found = wish.exact_match
    if found is None:
        found = wanted == "exact_match" or (recipe.task == "SEQ_2_SEQ_LM" and wanted is None)
    if found and not has_answers(recipe):
        rows = "rows of text alone" if recipe.task == "CAUSAL_LM" else recipe.task
        hint = "columns (--column) prompt and answer, or messages" if recipe.task == "CAUSAL_LM" else None
        raise UsageError(f"exact_match: expected rows with answers to compare with, found {rows}", hint=hint)
    if wish.max_answer is not None and not found:
        hint = "exact_match=True (--exact-match) generates answers" if has_answers(recipe) else None
        raise UsageError("max_answer: no answer is generated here", hint=hint)
    return found


@contextlib.contextmanager
def own_words() -> Iterator[None]:
    """Hints about a recipe's keys in the words of this command."""
    try:
        yield
    except UsageError as error:
        raise UsageError(error.message, cause=error.cause, hint=_hint(error.hint), id=error.id) from error


def _made(wish: Wish, task: str, base: str | None) -> Recipe:
    """A recipe that names nothing but the files."""
    files = [str(expanded(file)) for file in wish.files]
    document = {
        "v": recipes.V,
        "task": task,
        "base": {"id": base or "none"},
        "method": {"name": recipes.FULL},
        "data": {"train": files, "test": files, **({"columns": wish.columns} if wish.columns else {})},
    }
    return recipes.made(document, Path.cwd(), where="data")


def _hint(hint: str | None) -> str | None:
    """A hint about a recipe's keys in the words of this command."""
    if hint is None:
        return None
    meant = hint.partition("? ")[0] + "? " if hint.startswith("did you mean") and "? " in hint else ""
    if "data.map" in hint:
        return f"{meant}label_map (--label-map VALUE=LABEL) says which label a value of the column is"
    named = re.findall(r'(\w+) = ("(?:[^"\\]|\\.)*")', hint) if "data.columns = {" in hint else []
    if named:
        options = " ".join("--column " + shlex.quote(f"{key}={json.loads(column)}") for key, column in named)
        return f"did you mean {options}?"
    if "data.columns" in hint:
        return "columns (--column NAME=COLUMN) says which column is which"
    if "data.encoding" in hint:
        return "the file in UTF-8 (iconv -f LATIN1 -t UTF-8), or a recipe (--recipe) whose data.encoding says what it is in"
    for key, way in WAYS.items():
        hint = hint.replace(key, way)
    return hint


def told(wish: Wish, recipe: Recipe, examples: Examples) -> Json:
    """What was measured on."""
    files = [dict(file) for file in examples.files]
    digests = [str(file.get("sha256") or file.get("fingerprint")) for file in files]
    one = len(files) == 1 and "sha256" in files[0]
    return {
        "name": wish.dataset or recipe.data.name or recipe.data.dataset or _called(files),
        "split": wish.part,
        "rows": len(examples.parts[wish.part]),
        "sha256": digests[0] if one else hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        "files": files,
    }


def _called(files: Iterable[Json]) -> str:
    """Files by their names and the folders they are in: enough to know them by, nothing of this machine."""
    return " + ".join("/".join(Path(str(file.get("path"))).absolute().parts[-2:]) for file in files)
