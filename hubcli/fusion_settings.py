"""The config of a fusion, read and checked. Torch-free.

The keys are AdapterHub's, and `of`: the children that the fusion was made for, each in the text form of a composition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hubcli.composition import Block, Expr, parse, text
from hubcli.errors import ConfigKeyError

# AdapterHub's DynamicAdapterFusionConfig and StaticAdapterFusionConfig.
DYNAMIC: dict[str, Any] = {
    "key": True,
    "query": True,
    "value": True,
    "query_before_ln": False,
    "regularization": True,
    "residual_before": False,
    "temperature": False,
    "value_before_softmax": True,
    "value_initialized": True,
    "dropout_prob": None,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "dynamic": DYNAMIC,
    "static": {**DYNAMIC, "value": False, "regularization": False, "value_initialized": False},
}
PARTS = ("query", "key", "value")
FLAGS = (*PARTS, "regularization", "value_before_softmax", "value_initialized")
# Keys that can only be false, and why.
REFUSED = {
    "query_before_ln": "the query would be the sublayer's output without its residual, which no site's value is",
    "residual_before": "keys and values would hold the residual, and what a fusion mixes are deltas",
    "temperature": "it falls with every forward and is in no file, so that a file would not say what the fusion gives",
}


@dataclass(frozen=True, slots=True)
class FusionSettings:
    """A fusion's config.

    `of` are the children it was made for; `query`, `key`, `value` which projections it has; `identity` whether a fresh value
    matrix starts as the identity; `regularized` whether training pulls it there; `dropout` of the scores while training, None:
    what the model's attention has.
    """

    of: tuple[Expr, ...]
    query: bool
    key: bool
    value: bool
    identity: bool
    regularized: bool
    dropout: float | None


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the defaults of its `variant` ("dynamic", or "static", without a value matrix), children as text."""
    given = dict(config)
    variant = given.pop("variant", "dynamic")
    if variant not in VARIANTS:
        raise ConfigKeyError(f"fusion config: variant: expected one of {', '.join(VARIANTS)}, found {variant!r:.60}")
    if isinstance(given.get("of"), list | tuple):
        given["of"] = [text(child) if child is None or isinstance(child, Block) else child for child in given["of"]]
    return {**VARIANTS[variant], **given}


def read_settings(config: Mapping[str, Any]) -> FusionSettings:
    """The settings of a config.

    Raises:
        ConfigKeyError: keys that can't be honoured, all in one message.
        ExpressionError: a child is no composition.
    """
    full = completed(config)
    problems = [
        f"{key}: {value!r:.60} is not supported"
        for key, value in full.items()
        if key not in DYNAMIC and key not in ("of", "modules_to_save")
    ]
    problems += [f"{key}: {full[key]!r:.60}: {why}" for key, why in REFUSED.items() if full[key] is not False]
    problems += [
        f"{key}: expected true or false, found {full[key]!r:.60}" for key in FLAGS if not isinstance(full[key], bool)
    ]
    dropout, of = full["dropout_prob"], full.get("of")
    if dropout is not None and (
        isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1
    ):
        problems.append(f"dropout_prob: expected null or a number from 0, below 1, found {dropout!r:.60}")
    if not isinstance(of, list | tuple) or not of or not all(isinstance(child, str) and child for child in of):
        problems.append(f"of: expected the children that are fused, as texts, found {of!r:.60}")
    if not any(full[part] for part in PARTS):
        problems.append("query, key and value are all false: there is nothing to train")
    if problems:
        raise ConfigKeyError(f"fusion config: {'; '.join(problems)}")
    return FusionSettings(
        of=tuple(parse(child) for child in of or ()),
        query=full["query"],
        key=full["key"],
        value=full["value"],
        identity=full["value_initialized"],
        regularized=full["regularization"],
        dropout=None if dropout is None else float(dropout),
    )
