"""LoRA as a change of its module's weight and bias.

delta = scale · B(A x) is weight += scale · BA; DoRA, (factor − 1)(value − bias) + factor · scale · B(A x) + shift, is a change
of the weight and the bias that are there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from hubcli.method import Leaf
from hubcli_lora import maths

BLOCK = 192  # rows that are folded at once


def foldable(module: nn.Module, weight: Tensor | None) -> bool:
    """Whether the delta is what some other weight of this module gives."""
    if weight is None:
        return False
    if isinstance(module, nn.Embedding):
        return module.max_norm is None  # it scales rows when they are looked up
    # A reads all channels, which a grouped convolution has no weights for; it pads with zeros
    return not isinstance(module, maths.CONVS) or (module.groups == 1 and module.padding_mode == "zeros")


def weight_delta(
    leaf: Leaf, module: nn.Module, weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor | None, Tensor | None] | None:
    """What a frozen leaf adds to (weight, bias), laid out as the module's own; None where no weight gives its delta."""
    if weight is None or not foldable(module, weight):
        return None
    t = leaf.tensors
    added, shift = _product(leaf, module, weight), t.get("shift")
    if "factor" not in t:
        return added, shift
    factor = t["factor"].flatten()
    rows = factor if _turned(module) else factor.view(-1, *(1,) * (weight.dim() - 1))
    moved = shift
    if bias is not None:
        own = module._parameters.get("bias")
        more = (factor - 1) * (bias if own is None else bias - own.detach().to(bias.dtype))
        moved = more if shift is None else more + shift
    return (rows - 1) * weight + rows * added, moved


def fold(
    leaf: Leaf, module: nn.Module, weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor | None, Tensor | None] | None:
    """The new (weight, bias): one fused multiply-add for a plain leaf."""
    t = leaf.tensors
    if weight is None or "factor" in t or leaf.form == "conv" or not foldable(module, weight):
        delta = weight_delta(leaf, module, weight, bias)
        if delta is None or weight is None or delta[0] is None:
            return None
        return weight + delta[0], _sum(bias, delta[1])
    return _added(weight, *_factors(leaf, module)), _sum(bias, t.get("shift"))


def _added(weight: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """weight + left @ right; block by block of rows on a CPU, so that what is copied is still near when it is added to."""
    if weight.device.type != "cpu" or weight.shape[0] <= BLOCK:
        return torch.addmm(weight, left, right)
    made = torch.empty_like(weight, memory_format=torch.contiguous_format)
    parts = zip(*(torch.split(whole, BLOCK) for whole in (weight, left, made)), strict=True)
    for rows, more, out in parts:
        torch.addmm(rows, more, right, out=out)
    return made


def _sum(bias: Tensor | None, shift: Tensor | None) -> Tensor | None:
    return bias if shift is None else shift if bias is None else bias + shift


def _turned(module: nn.Module) -> bool:
    """Whether outputs are the weight's last axis."""
    return isinstance(module, Conv1D | nn.Embedding)


def _factors(leaf: Leaf, module: nn.Module) -> tuple[Tensor, Tensor]:
    """Two matrices whose product is scale · BA, laid out as the weight."""
    a, b = leaf.tensors["A"], leaf.tensors["B"] * leaf.tensors["scale"]
    return (a.t(), b.t()) if _turned(module) else (b, a)


def _product(leaf: Leaf, module: nn.Module, weight: Tensor) -> Tensor:
    """scale · BA, laid out as the weight."""
    if leaf.form == "conv":
        a, b = leaf.tensors["A"], leaf.tensors["B"] * leaf.tensors["scale"]
        return (b.flatten(1) @ a.flatten(1)).view(weight.shape)
    left, right = _factors(leaf, module)
    return left @ right
