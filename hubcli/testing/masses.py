"""The reference at the port "attention": each prefix is an attention of its own, joined to the module's by its softmax mass.

It shares nothing with the core but the place in transformers' `AttentionInterface`: no key is ever put beside another.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hubcli.composition import Average, BatchSplit, Expr, Split, Stack
from hubcli.errors import UnsupportedError
from hubcli.method import Leaf

NAME = "hubcli_reference"  # in transformers' AttentionInterface
_GIVEN = "_hubcli_reference"  # the module's attribute with the expression and its leaves


Part = tuple[Leaf, float, slice, slice]  # a leaf, the log of its weight, the rows and the queries that see it


def attending(module: nn.Module, expr: Expr, here: Mapping[str, Leaf]) -> Callable[[], None]:
    """Have a module attend by `attention` under an expression until the function that is returned is called."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attention)
    before: Any = module.config
    module.config = copy.copy(before)
    module.config.__dict__["_attn_implementation_internal"] = NAME
    setattr(module, _GIVEN, (expr, here))

    def undo() -> None:
        module.config = before
        delattr(module, _GIVEN)

    return undo


def parts_of(expr: Expr, here: Mapping[str, Leaf], log: float, rows: slice, queries: slice) -> list[Part]:
    """The leaves of an expression at one site, by the definition of its blocks."""
    if expr is None:
        return []
    if isinstance(expr, str):
        return [(here[expr], log, rows, queries)] if expr in here else []
    if isinstance(expr, Stack):
        return [part for child in expr.children for part in parts_of(child, here, log, rows, queries)]
    found: list[Part] = []
    if isinstance(expr, Average):
        for child, weight in zip(expr.children, expr.shares, strict=True):
            if weight > 0:
                found += parts_of(child, here, log + math.log(weight), rows, queries)
        return found
    if not isinstance(expr, Split | BatchSplit):
        raise UnsupportedError(f"the reference does not know {type(expr).__name__}")
    start = (queries if isinstance(expr, Split) else rows).start
    for child, size in zip(expr.children, expr.sizes, strict=True):
        place = slice(start, start + size)
        at = (rows, place) if isinstance(expr, Split) else (place, queries)
        found += parts_of(child, here, log, *at)
        start += size
    return found


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attention over the module's own keys, then over each prefix alone; outputs weighed by their masses' shares."""
    scaling, groups = options.get("scaling"), query.shape[1] // key.shape[1]
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)

    def alone(keys: Tensor, values: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        scores = query @ keys.repeat_interleave(groups, -3).transpose(-1, -2)
        scores = scores if bias is None else scores + bias
        return scores.softmax(-1).nan_to_num(0.0) @ values.repeat_interleave(groups, -3), scores.logsumexp(-1, True)

    out, mass = alone(key, value, _bias(module, query, key, attention_mask, options))
    expr, here = getattr(module, _GIVEN)
    for leaf, log, rows, queries in parts_of(expr, here, 0.0, slice(0, query.shape[0]), slice(0, query.shape[2])):
        more, more_mass = alone(*leaf.method.keys_values(leaf, module), None)
        weight = torch.full_like(more_mass, -torch.inf)
        weight[rows, :, queries] = log
        total = torch.logaddexp(mass, more_mass + weight)
        own, others = ((one - total).exp().nan_to_num(0.0) for one in (mass, more_mass + weight))
        out, mass = own * out + others * more, total
    return out.transpose(1, 2).contiguous(), None


def _bias(
    module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, options: Mapping[str, Any]
) -> Tensor | None:
    """What is added to the scores of the module's own keys."""
    causal = getattr(module, "is_causal", True) if options.get("is_causal") is None else options["is_causal"]
    if mask is None and causal and query.shape[2] > 1:
        mask = torch.ones((query.shape[2], key.shape[2]), dtype=torch.bool, device=key.device).tril()
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, -torch.inf)
    given: Tensor | None = options.get("position_bias")
    return mask if given is None else given if mask is None else given + mask
