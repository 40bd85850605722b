"""Plain frozen LoRAs at linear modules, added in as few products as there are: two, for one leaf or for a bank of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers.pytorch_utils import Conv1D

from hubcli.method import Groups, Leaf, Method

FRESH = (nn.Linear, Conv1D)  # subclasses may keep what they gave


def alike(x: Tensor, weight: Tensor, value: Tensor) -> bool:
    """Whether one product may be added to another: all in one dtype, and nothing is cast on the way."""
    return (
        x.dtype == value.dtype == weight.dtype
        and not x.is_meta  # which autocast doesn't know
        and not torch.is_autocast_enabled(x.device.type)
    )


def prepare(leaf: Leaf) -> Leaf:
    """Note A and B as they are multiplied by, if the leaf is plain and at a linear module."""
    if leaf.form == "linear" and len(leaf.tensors) == 3:
        a, b = leaf.tensors["A"].t(), leaf.tensors["B"].t()
        leaf.ready = (a, b, leaf.constants["scale"], a.shape[0], b.shape[1])
    return leaf


def free(module: nn.Module, value: Tensor) -> bool:
    """Whether `value` may be written into: fresh from a module of a kind that keeps nothing, heard by no hook but ours, and no
    gradient needs it.
    """
    mine = type(module) in FRESH and len(module._forward_hooks) == 1
    return mine and value.is_contiguous() and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def added(leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor) -> Tensor:
    """value + scale · B(A x), written into `value` where that is free to be.

    Where code is compiled the scale is a tensor, so that other scales run the same graph.
    """
    if torch.compiler.is_compiling():
        t = leaf.tensors
        inner = F.linear(x, t["A"]) * t["scale"]
        return torch.addmm(value.flatten(0, -2), inner.flatten(0, -2), t["B"].t()).view(value.shape)
    a, b, scale, width, out = leaf.ready
    inner = torch.mm(x.reshape(-1, width), a)
    if not free(module, value):
        return torch.addmm(value.reshape(-1, out), inner, b, alpha=scale).view(value.shape)
    value.view(-1, out).addmm_(inner, b, alpha=scale)
    return value


def banked(method: Method[Any], leaves: Sequence[Leaf | None]) -> Leaf:
    """A (groups, r, in) and B (groups, r, out), the scales in it; ranks are padded by zeros."""
    known = next(leaf for leaf in leaves if leaf is not None)
    nothing = {"A": known.tensors["A"][:0], "B": known.tensors["B"][:, :0], "scale": known.tensors["scale"]}
    each = [nothing if leaf is None else leaf.tensors for leaf in leaves]
    scales = torch.stack([tensors["scale"] for tensors in each])
    halves = {
        "A": pad_sequence([tensors["A"] for tensors in each], batch_first=True),
        "B": pad_sequence([tensors["B"].t() for tensors in each], batch_first=True).mul_(scales.view(-1, 1, 1)),
    }
    return Leaf(method, known.form, halves)


def delta_by_group(leaf: Leaf, x: Tensor) -> Tensor:
    """B(A x) for each group: x (groups, rows, …, in)."""
    a, b = leaf.tensors["A"], leaf.tensors["B"]
    inner = torch.bmm(x.reshape(x.shape[0], -1, x.shape[-1]).to(a.dtype), a.transpose(1, 2))
    return torch.bmm(inner, b).view(*x.shape[:-1], b.shape[-1])


def added_by_group(leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor, groups: Groups) -> Tensor:
    """value + B(A x), each row by its group; written into `value` as in `added`."""
    a, b = leaf.tensors["A"], leaf.tensors["B"]
    into = free(module, value)
    if not alike(x, a, value):
        return value + groups.home(delta_by_group(leaf, groups.split(x))).to(value.dtype)
    if groups.places is not None:
        moved = groups.home(delta_by_group(leaf, groups.split(x)))
        return value.add_(moved) if into else value + moved
    inner = torch.bmm(x.reshape(groups.count, -1, x.shape[-1]), a.transpose(1, 2))
    flat = value.reshape(groups.count, -1, value.shape[-1])
    return flat.baddbmm_(inner, b).view(value.shape) if into else torch.baddbmm(flat, inner, b).view(value.shape)
