"""What a recipe can't say though its schema allows it: keys that exclude or need one another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hubcli.recipe import COLUMNS, FULL, FUSION, LABELLED, MethodSpec, Recipe

Json = dict[str, Any]


def problems(recipe: Recipe, document: Mapping[str, Any], changes: Mapping[str, Any]) -> Iterable[str]:
    """What is wrong with a recipe, one line each.

    Args:
        document, changes: what it was made of: some keys must not be given together, whatever their values.
    """
    data, train, method = recipe.data, recipe.train, recipe.method
    if bool(data.train) == bool(data.dataset):
        yield "data: expected either train (files) or dataset (a name), found " + ("both" if data.train else "neither")
    for key in ("subset", "revision", "splits"):
        if getattr(data, key) and not data.dataset:
            yield f"data.{key} is for data.dataset"
    for key in ("validation", "test"):
        if getattr(data, key) and data.dataset:
            yield f"data.{key} names files, data.dataset has data.splits"
    yield from _columns(recipe)
    if set(data.map.values()) - set(data.labels):
        yield f"data.map: {', '.join(sorted(set(data.map.values()) - set(data.labels)))}: not among data.labels"
    if len(set(data.labels)) != len(data.labels):
        yield "data.labels names a label twice"
    if data.labels and recipe.task not in LABELLED:
        yield f"data.labels is for {', '.join(LABELLED)}, found {recipe.task}"
    if recipe.split.validation + recipe.split.test > 0.9:
        yield "split: validation and test leave less than a tenth to train on"
    if train.batch_size % train.gradient_accumulation:
        yield f"train.batch_size: expected a multiple of gradient_accumulation ({train.gradient_accumulation})"
    if train.early_stopping and train.keep != "best":
        yield 'train.early_stopping needs train.keep = "best"'
    if "epochs" in {**document.get("train", {}), **_below("train", changes)} and train.max_steps:
        yield "train: expected epochs or max_steps, found both"
    yield from _method_problems(method)


def _below(table: str, changes: Mapping[str, Any]) -> Json:
    return {key.removeprefix(table + "."): value for key, value in changes.items() if key.startswith(table + ".")}


def _columns(recipe: Recipe) -> Iterable[str]:
    named, groups = set(recipe.data.columns), COLUMNS[recipe.task]
    possible = {name for group in groups for name in group} | ({"text_pair"} if recipe.task == "SEQ_CLS" else set())
    if named - possible:
        wrong = ", ".join(sorted(named - possible))
        yield f"data.columns: {recipe.task} reads {', '.join(sorted(possible))}, not {wrong}"
    elif sum(bool(named & set(group)) for group in groups) > 1:
        ways = " or ".join("+".join(group) for group in groups)
        yield f"data.columns: {recipe.task} reads {ways}, found {', '.join(sorted(named))}"


def _method_problems(method: MethodSpec) -> Iterable[str]:
    if method.name == FUSION:
        of = method.config.get("of", [])
        if not isinstance(of, list) or not all(isinstance(name, str) for name in of):
            yield f"method.config.of: expected a list of names, found {of!r}"
        elif sorted(of) != sorted(method.adapters):
            yield f"method.adapters: expected the names of method.config.of ({', '.join(of) or 'none'}), found " + (
                ", ".join(method.adapters) or "none"
            )
    elif method.adapters:
        yield f"method.adapters is for a fusion, found method {method.name}"
    if isinstance(method.head, str) and method.head not in ("auto", "none"):
        yield f'method.head: expected "auto", "none" or a list of modules, found "{method.head}"'
    if method.name == FULL and (method.config or method.quantize or method.head != "auto" or method.format):
        yield "method full trains every weight: it takes no config, head, quantize or format"
