"""A tiny model with two random adapters of one method on it: what the conformance tests start from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Expr
from hubcli.testing.models import inputs_of, output, tiny

STD = 0.3  # of the random numbers that are added to a fresh adapter


@dataclass
class Case:
    """A tiny model with adapters a and b of one method and config on it, random and frozen."""

    method: str
    family: str
    config: dict[str, Any]
    model: nn.Module
    inputs: dict[str, Tensor]
    handle: Adapted
    bare: Tensor

    def under(self, expr: Expr = None, rows: Sequence[Expr] | None = None) -> Tensor:
        """The logits under an expression."""
        with self.handle.using(expr, rows):
            return output(self.model, self.inputs)

    def random(self, name: str, seed: int, head: str | None = None) -> None:
        """Add an adapter, fresh numbers plus noise, frozen."""
        torch.manual_seed(seed)
        self.handle.add(self.method, name, copy.deepcopy(self.config), head=head)
        with torch.no_grad():
            for parameter in self.handle.trainable(name):
                parameter.add_(torch.randn_like(parameter) * STD)
        self.handle.trainable([])


def build(method: str, family: str, config: Mapping[str, Any], model_of: Callable[[str], nn.Module] = tiny) -> Case:
    """A case with its two adapters."""
    model, inputs = model_of(family), inputs_of(family)
    bare = output(model, inputs)
    case = Case(method, family, dict(config), model, inputs, adapt(model), bare)
    case.random("a", 1)
    case.random("b", 2)
    return case
