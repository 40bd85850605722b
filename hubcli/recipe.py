"""Training recipes: TOML in, frozen value objects out. Everything that decides what a training gives stands in one.

    v = 1
    task = "SEQ_CLS"
    base = { id = "sentence-transformers/all-MiniLM-L6-v2" }
    method = { name = "lora", config = { r = 8 } }
    data = { train = "train.csv" }

`schemas/recipe.schema.json` says which keys there are; what a schema can't say is checked here. Paths are relative to the
recipe's folder.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any

from hubcli import toml_file
from hubcli.errors import NotFoundError, UsageError
from hubcli.frozen import frozen
from hubcli.recipe_changes import changed
from hubcli.schema import check, load_schema

Json = dict[str, Any]
V = 1
SCHEMA = "recipe"
FULL, FUSION = "full", "fusion"  # what a recipe trains that is no PEFT method
PARTS = ("train", "validation", "test")
# task -> the columns that its rows need, each group an alternative; the first is the default
COLUMNS: dict[str, tuple[tuple[str, ...], ...]] = {
    "SEQ_CLS": (("text", "label"),),
    "TOKEN_CLS": (("tokens", "tags"),),
    "CAUSAL_LM": (("text",), ("messages",), ("prompt", "answer")),
    "SEQ_2_SEQ_LM": (("text", "target"),),
    "IMG_CLS": (("image", "label"),),
}
LABELLED = ("SEQ_CLS", "TOKEN_CLS", "IMG_CLS")


@frozen
class Base:
    """The frozen model: a hub id or a folder. `dtype` is what its weights are loaded in, `device` where it goes, `tokenizer` a
    folder that stands in for its own.
    """

    id: str
    revision: str | None = None
    weights_sha256: str | None = None
    dtype: str = "float32"
    device: str | None = None
    tokenizer: str | None = None


@frozen
class MethodSpec:
    """What trains: a PEFT method with its config, `full` (every weight of the base) or `fusion` (over `adapters`).

    `quantize` is how the base is loaded, `format` and `save_dtype` how the result is written, `tokenizer` whether the
    tokenizer goes with it.
    """

    name: str
    config: Json = field(default_factory=dict)
    head: str | tuple[str, ...] = "auto"
    quantize: str | None = None
    adapters: Json = field(default_factory=dict)
    format: str | None = None
    save_dtype: str = "float32"
    tokenizer: bool = False


@frozen
class Data:
    """Where rows come from. `columns` maps what a task reads to the names of the file's columns."""

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    dataset: str | None = None
    subset: str | None = None
    revision: str | None = None
    splits: Json = field(default_factory=dict)
    format: str | None = None
    delimiter: str | None = None
    encoding: str = "utf-8"
    columns: Json = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    map: Json = field(default_factory=dict)
    limit: Json = field(default_factory=dict)
    name: str | None = None


@frozen
class Split:
    """Which share of `train` becomes validation and test where the data names no files for them."""

    validation: float = 0.1
    test: float = 0.1
    by: str = "hash"


@frozen
class Train:
    """How the numbers are found; names and defaults as in `schemas/recipe.schema.json`."""

    epochs: float = 3
    max_steps: int | None = None
    batch_size: int = 32
    eval_batch_size: int = 64
    gradient_accumulation: int = 1
    gradient_checkpointing: bool = False
    precision: str = "fp32"
    max_length: int = 128
    max_answer: int = 64
    optimiser: str = "adamw_torch"
    learning_rate: float = 1e-3
    head_learning_rate: float | None = None
    schedule: str = "linear"
    warmup: float = 0.06
    weight_decay: float = 0.01
    l2: float = 0.0
    max_grad_norm: float = 1.0
    group_by_length: bool = True
    evaluate: int | None = None
    keep: str = "best"
    metric: str | None = None
    early_stopping: Json | None = None
    log: int = 10
    threads: int | None = None


@frozen
class Recipe:
    """A whole recipe. `folder` is what its paths are relative to; it is no part of the recipe's `document`."""

    task: str
    base: Base
    method: MethodSpec
    data: Data
    v: int = V
    name: str | None = None
    seed: int = 0
    split: Split = field(default_factory=Split)
    train: Train = field(default_factory=Train)
    release: Json = field(default_factory=dict)
    compare: Json = field(default_factory=dict)
    folder: Path = field(default_factory=Path)

    @property
    def columns(self) -> dict[str, str]:
        """What the task reads -> the column it is in: those named, and the task's own names for the rest."""
        given = {key: str(value) for key, value in self.data.columns.items()}
        choices = COLUMNS[self.task]
        wanted = next((group for group in choices if set(group) & set(given)), choices[0])
        return {**{name: name for name in wanted}, **given}

    def place(self, path: str) -> Path:
        """Where a path of the recipe is; `~` is the person's own folder."""
        return self.folder / Path(path).expanduser()

    def document(self) -> Json:
        """The recipe as JSON with every default filled in: what was really used."""
        return {key: _plain(value) for key, value in _items(self) if key != "folder"}

    def digest(self) -> str:
        """The sha256 of the document, as JSON with sorted keys."""
        return hashlib.sha256(json.dumps(self.document(), sort_keys=True).encode()).hexdigest()


def read(file: Path | str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe, with `changes` (dotted key -> value) made to it first.

    Raises:
        NotFoundError: no such file. UsageError: not TOML, or a key or value that can't be; all are named.
    """
    path = Path(file)
    if not path.is_file():
        raise NotFoundError(f"no recipe {path}", hint="hubcli train --init writes one")
    document = toml_file.read(path, UsageError, "E_RECIPE")
    return made(document, path.absolute().parent, changes, where=str(path))


def made(
    document: Mapping[str, Any], folder: Path, changes: Mapping[str, Any] | None = None, *, where: str = "recipe"
) -> Recipe:
    """A recipe from its document.

    Raises:
        UsageError: a key or value that can't be; all are named.
    """
    from hubcli.recipe_rules import problems

    full = changed(document, changes or {})
    faults = check(full, SCHEMA)
    if faults:
        raise UsageError(
            f"{where}: " + "; ".join(map(str, faults)), id="E_RECIPE", hint=_meant(fault.field for fault in faults)
        )
    if endless := list(_endless(full)):
        raise UsageError(f"{where}: {', '.join(endless)}: expected a finite number", id="E_RECIPE")
    trained = frozenset(full.get("train", {}))
    recipe = Recipe(
        base=_object(Base, full.pop("base")),
        method=_object(MethodSpec, full.pop("method")),
        data=_object(Data, _labelled(_listed(full.pop("data")))),
        split=_object(Split, full.pop("split", {})),
        train=_object(Train, full.pop("train", {})),
        folder=folder,
        **full,
    )
    for problem in problems(recipe, trained):
        raise UsageError(f"{where}: {problem}", id="E_RECIPE")
    return recipe


def value_of(text: str) -> Any:
    """A value as TOML has it; anything else is text (`--set base.id=some/model` needs no quotes)."""
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return found["value"] if len(found) == 1 else text


def keys() -> list[str]:
    """Every key that a recipe can have, dotted."""
    return sorted(_keys(load_schema(SCHEMA)))


def _keys(schema: Json) -> Iterable[str]:
    for name, inner in schema.get("properties", {}).items():
        yield name
        yield from (f"{name}.{key}" for key in _keys(inner))


def _endless(value: Any, key: str = "") -> Iterable[str]:
    """Where a number is none, or infinite: TOML has both."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _endless(inner, f"{key}.{name}".removeprefix("."))
    elif isinstance(value, list):
        for inner in value:
            yield from _endless(inner, key)
    elif isinstance(value, float) and not math.isfinite(value):
        yield key


def _meant(wrong: Iterable[str]) -> str | None:
    known = keys()
    for name in wrong:
        close = difflib.get_close_matches(name, [key for key in known if key != name], 1, 0.75)
        if close and name not in known:
            return f"did you mean '{close[0]}'?"
    return None


def _object(cls: Any, given: Mapping[str, Any]) -> Any:
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})


def _listed(data: Mapping[str, Any]) -> Json:
    """One file is a list of one."""
    return {key: [value] if key in PARTS and isinstance(value, str) else value for key, value in data.items()}


def _labelled(data: Json) -> Json:
    """Where `map` alone says what the labels are, they are its values in their order."""
    found = data.get("labels") or list(dict.fromkeys(data.get("map", {}).values()))
    return {**data, "labels": found} if found else data


def _items(value: Any) -> list[tuple[str, Any]]:
    return [(told.name, getattr(value, told.name)) for told in fields(value)]


def _plain(value: Any) -> Any:
    if isinstance(value, Base | MethodSpec | Data | Split | Train):
        return {key: _plain(inner) for key, inner in _items(value)}
    return list(value) if isinstance(value, tuple) else value
