"""Frozen adapters none of whose numbers is at its start, and what a model gives under an expression of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Expr
from hubcli.testing import output

Given = tuple[str, Mapping[str, Any]]
"""A method and its config."""


def add_frozen(handle: Adapted, method: str, name: str, config: Mapping[str, Any], seed: int, head: Any = None) -> str:
    """One adapter or fusion more, of random numbers."""
    torch.manual_seed(seed)
    handle.add(method, name, copy.deepcopy(dict(config)), head=head)
    with torch.no_grad():
        for parameter in handle.trainable(name):
            parameter.add_(torch.randn_like(parameter) * 0.3)
    handle.trainable([])
    return name


def frozen(
    base: nn.Module,
    *given: Given,
    names: Sequence[str] = "abcdef",
    heads: Sequence[Any] | None = None,
    first_seed: int = 1,
) -> Adapted:
    """A handle on `base` with these adapters, called a, b, … unless said otherwise, and without heads."""
    handle = adapt(base)
    for at, (method, config) in enumerate(given):
        add_frozen(handle, method, names[at], config, first_seed + at, heads[at] if heads else None)
    return handle


def under(handle: Adapted, inputs: dict[str, Tensor], expr: Expr = None, rows: Any = None) -> Tensor:
    """What `output` finds while this expression, or these of each row, are active."""
    with handle.using(expr, rows):
        return output(handle.model, inputs)
