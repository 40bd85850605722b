"""Attention by hand, with adapters' keys and values: each an attention of its own, joined by its softmax mass times a weight."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from hubcli.adapted import Adapted
from hubcli.composition import Average, BatchSplit, Expr, Split, Stack


def shares(expr: Expr, weight: Tensor) -> list[tuple[str, Tensor]]:
    """(name, weight by row and position) of every leaf, as often as it stands in the tree; cuts stand at the root."""
    if expr is None:
        return []
    if isinstance(expr, str):
        return [(expr, weight)]
    found = []
    weights = expr.shares if isinstance(expr, Average) else (1.0,) * len(expr.children)
    assert isinstance(expr, Average | Stack | Split | BatchSplit)
    start = 0
    for i, (child, share) in enumerate(zip(expr.children, weights, strict=True)):
        here = weight * share
        if isinstance(expr, Split | BatchSplit):
            axis = 1 if isinstance(expr, Split) else 0
            at = torch.arange(weight.shape[axis])
            own = (at >= start) & (at < start + expr.sizes[i])
            here = here * (own[None] if axis else own[:, None])
            start += expr.sizes[i]
        found += shares(child, here)
    return found


@contextmanager
def by_hand(handle: Adapted, expr: Expr) -> Iterator[None]:
    """Run the bare model with every attention computed here."""
    names = {module: path for path, module in handle.structure.modules.items()}

    def attention(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, scaling: Any = None, **more: Any) -> Any:
        scaling, groups = q.shape[-1] ** -0.5 if scaling is None else scaling, q.shape[1] // k.shape[1]

        def alone(keys: Tensor, values: Tensor, bias: Any) -> tuple[Tensor, Tensor]:
            keys, values = (t.repeat_interleave(groups, 1) for t in (keys, values))
            scores = torch.einsum("bhqd,bhkd->bhqk", q, keys) * scaling
            scores = scores if bias is None else scores + bias
            mass = scores.logsumexp(-1, keepdim=True)
            return torch.einsum("bhqk,bhkd->bhqd", (scores - mass).exp(), values), mass

        answers = [alone(k, v, _bias(module, q, k, mask) + (0 if (b := more.get("position_bias")) is None else b))]
        for name, weight in shares(expr, torch.ones(q.shape[0], q.shape[2], dtype=q.dtype)):
            adapter = handle.engine.adapters[name]
            site = next((site for site in adapter.sites if site.path == names[module]), None)
            if site is None:
                continue
            leaf = adapter.method.leaf(site, module, adapter.settings, adapter.sites[site], False)
            out, mass = alone(
                *(t[None].expand(q.shape[0], -1, -1, -1) for t in adapter.method.keys_values(leaf, module)), None
            )
            answers.append((out, mass + weight[:, None, :, None].log()))
        total = torch.stack([mass for _, mass in answers]).logsumexp(0)
        return sum(out * (mass - total).exp() for out, mass in answers).transpose(1, 2), None  # type: ignore[union-attr]

    with _instead(handle, attention), handle.using(None):
        yield


def _bias(module: Any, q: Tensor, k: Tensor, mask: Any) -> Tensor:
    if mask is not None:
        mask = mask[..., : k.shape[2]]
        return torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -1e30) if mask.dtype == torch.bool else mask  # type: ignore[no-any-return]
    bias = torch.zeros(1, 1, q.shape[2], k.shape[2], dtype=q.dtype)
    if getattr(module, "is_causal", False):
        return bias.masked_fill(~torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(), -1e30)
    return bias


@contextmanager
def _instead(handle: Adapted, attention: Any) -> Iterator[None]:
    """Let the attentions that hubcli routes call this function."""
    AttentionInterface.register("by_hand", attention)
    routed = {
        module: module.config
        for module in handle.structure.modules.values()
        if "hubcli" in str(getattr(vars(module).get("config"), "_attn_implementation_internal", ""))
    }
    assert routed
    for module, config in routed.items():
        module.config = copy.copy(config)
        module.config.__dict__["_attn_implementation_internal"] = "by_hand"
    try:
        yield
    finally:
        for module, config in routed.items():
            module.config = config
