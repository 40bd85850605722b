"""What a recipe asks for that can be refused before anything is loaded or written."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hubcli import quantised
from hubcli.errors import UnsupportedError, UsageError
from hubcli.plugins import plugins
from hubcli.pretrained import device_of
from hubcli.recipe import FULL, FUSION, Recipe
from hubcli.schema import faults_of
from hubcli.training.metrics import spell_spans

# task -> all of its figures; a classification of two labels has f1 in place of f1_macro, tags that spell no spans have `WORDS`
NAMES = {
    "SEQ_CLS": ("accuracy", "f1_macro", "mcc", "loss"),
    "TOKEN_CLS": ("f1", "precision", "recall", "accuracy", "loss"),
    "CAUSAL_LM": ("exact_match", "perplexity", "loss"),
    "SEQ_2_SEQ_LM": ("exact_match", "perplexity", "loss"),
    "IMG_CLS": ("accuracy", "f1_macro", "mcc", "loss"),
}
WORDS = ("accuracy", "f1_macro_words", "loss")


def check(recipe: Recipe, labels: Sequence[str], parts: Mapping[str, Sequence[Any]]) -> None:
    """Refuse names that nothing has, a device or a precision that this machine hasn't, and a stop by rows that aren't there.

    Args:
        labels: of the head. parts: the rows of each part.

    Raises:
        UsageError, MethodNotFoundError, PluginError, MissingExtraError: as `check_method`. UsageError: E_RECIPE, no such metric,
            optimiser or schedule. UnsupportedError: the device or the precision.
    """
    check_method(recipe)
    _device(recipe.base.device)
    if recipe.train.early_stopping is not None and not parts["validation"]:
        hint = "data.validation names files, split.validation cuts a share from train"
        raise UsageError("train.early_stopping: there are no validation rows to stop by", id="E_RECIPE", hint=hint)
    _metric(recipe, labels)
    _names(recipe)
    if recipe.train.precision == "fp16" and recipe.base.device in (None, "cpu"):
        raise UnsupportedError('train.precision: "fp16" needs a GPU', hint='"bf16" or "fp32"')


def names(task: str, labels: Sequence[str]) -> tuple[str, ...]:
    """The figures that a task has."""
    if task == "TOKEN_CLS" and not spell_spans(labels):
        return WORDS
    return tuple("f1" if name == "f1_macro" and len(labels) == 2 else name for name in NAMES[task])


def has_answers(recipe: Recipe) -> bool:
    """Whether its rows have texts that what is generated can be compared with."""
    return recipe.task == "SEQ_2_SEQ_LM" or (recipe.task == "CAUSAL_LM" and "text" not in recipe.columns)


def _device(name: str | None) -> None:
    """One that is there, and that every process finds: which GPU it takes is decided from outside, as for any Trainer."""
    kind, colon, number = (name or "cpu").partition(":")
    if colon and (kind == "cpu" or number != "0"):
        hint = f'"{kind}"' + (f", and CUDA_VISIBLE_DEVICES={number}" if kind == "cuda" else "")
        raise UnsupportedError(f'base.device: expected a kind of device, found "{name}"', hint=hint)
    if kind != "cpu":
        device_of(name)


def check_method(recipe: Recipe, *, where: str = "method") -> None:
    """Refuse a method that nothing provides, a config that it can't have, and a quantised base without what reads it.

    Args:
        where: how messages name the method's part of the recipe.

    Raises:
        MethodNotFoundError, PluginError: no such method. UsageError: E_RECIPE, a key or a value of its config; E_METHOD, a name
            close to one that is no plugin's. MissingExtraError: a package is not installed.
    """
    method = recipe.method
    if method.name not in (FULL, FUSION):
        _close_to_ours(method.name)
        _config(where, method.config, plugins().method(method.name).config_schema)
    kind = quantised.wanted(recipe)
    if kind is not None:
        quantised.check(kind)


def _close_to_ours(name: str) -> None:
    close = difflib.get_close_matches(name, (FULL, FUSION), 1, 0.75)
    if close and name not in {plugin.name for plugin in plugins().of_kind("method")}:
        raise UsageError(f"method.name: no method {name}", id="E_METHOD", hint=f"did you mean '{close[0]}'?")


def _config(where: str, config: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """What the schema of a method's config can say of the keys that are given; its defaults bring the rest."""
    known = schema.get("properties", {})
    lenient = {key: value for key, value in schema.items() if key != "required"}
    problems = faults_of(config, lenient, where="config")
    close = {key: difflib.get_close_matches(key, known, 1, 0.75) for key in config if key not in known}
    wrong = [f"config.{key}: did you mean '{found[0]}'?" for key, found in close.items() if found]
    if problems or wrong:
        raise UsageError(f"{where}: {'; '.join([*map(str, problems), *wrong])}", id="E_RECIPE")


def _metric(recipe: Recipe, labels: Sequence[str]) -> None:
    if recipe.train.metric is None:
        return
    known = names(recipe.task, labels)
    if not has_answers(recipe):
        known = tuple(name for name in known if name != "exact_match")
    _known("metric", recipe.train.metric, known)


def _names(recipe: Recipe) -> None:
    """transformers knows the names; it is asked where they are not the defaults alone."""
    spec, default = recipe.train, type(recipe.train)()
    if (spec.optimiser, spec.schedule) == (default.optimiser, default.schedule):
        return
    from transformers.trainer_utils import SchedulerType
    from transformers.training_args import OptimizerNames

    _known("optimiser", spec.optimiser, [name.value for name in OptimizerNames])
    _known("schedule", spec.schedule, [name.value for name in SchedulerType])


def _known(key: str, given: str, known: Iterable[str]) -> None:
    among = list(known)
    if given not in among:
        close = difflib.get_close_matches(given, among, 1)
        hint = f"did you mean '{close[0]}'?" if close else None
        raise UsageError(f"train.{key}: expected one of {', '.join(among)}, found {given}", id="E_RECIPE", hint=hint)
