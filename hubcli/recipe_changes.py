"""What is different from a recipe: keys set and taken away, each by its dotted name."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from hubcli.errors import UsageError

Json = dict[str, Any]
# a key that is changed -> those that it stands in place of
INSTEAD = {
    "train.epochs": ("train.max_steps",),
    "train.max_steps": ("train.epochs",),
    "data.train": ("data.dataset", "data.subset", "data.revision", "data.splits"),
    "data.dataset": ("data.train", "data.validation", "data.test"),
}


def changed(document: Mapping[str, Any], changes: Mapping[str, Any]) -> Json:
    """The document with its changes; what is given instead of another key takes that one away."""
    full = copy.deepcopy(dict(document))
    for key, value in changes.items():
        _set(full, key, value)
        for other in INSTEAD.get(key, ()) if value is not None else ():
            if other not in changes:
                _set(full, other, None)
    return full


def _set(document: Json, key: str, value: Any) -> None:
    *path, last = key.split(".")
    at = document
    for name in path:
        at = at.setdefault(name, {})
        if not isinstance(at, dict):
            raise UsageError(f"{key}: '{name}' is no table of the recipe", id="E_RECIPE")
    if value is None:
        at.pop(last, None)
    else:
        at[last] = value
