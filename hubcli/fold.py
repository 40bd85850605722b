"""Folding: a composition's adapters into the weight and bias of one module. The shorter interpreter over the same tree.

A leaf that folds is an affine change of (weight, bias). `Stack`: each child sees what came before. `Average`: the weighted sum
of what each child adds to the same weight and bias. What reduces to one leaf folds in one pass. At a module's input the child
that acts first stands next to the input, so that it is folded last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from hubcli.adapter import finite
from hubcli.composition import Average, Expr, Stack, leaves, text
from hubcli.errors import UnsupportedError, WeightsError
from hubcli.method import Leaf, Site
from hubcli.plan import Irreducible, reduced

Pair: TypeAlias = tuple[Tensor | None, Tensor | None]  # of a module's weight and bias, or of what is added to them
NAMES = ("weight", "bias")


class UnfoldableError(Exception):
    """A part of a composition that is no change of a module's weight and bias; says which."""


@dataclass(frozen=True, slots=True, eq=False)
class Port:
    """What is folded at one port of a module: the expression over the leaves that live there."""

    site: Site
    expr: Expr
    found: Mapping[str, Leaf]


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """A module's new parameters, those that change alone, and by how much the largest rounding moved one of their numbers."""

    parameters: dict[str, Tensor]
    rounding: float


def finer(tensor: Tensor) -> Tensor:
    """The tensor in the dtype to add up in: float32, or its own where that is finer."""
    if tensor.dtype == torch.float32:
        return tensor
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def folded(ports: Sequence[Port], module: nn.Module, weight: Tensor | None = None) -> Folded:
    """A module with a composition's adapters in its weight and bias; its own tensors are not written into.

    Added up in float32 or finer, and rounded once to the module's dtype.

    Args:
        ports: what acts at its input, then what acts at its output.
        module: a module of full precision.
        weight: instead of the module's own.

    Raises:
        UnfoldableError: a part that is no weight.
        WeightsError: NaN or infinity, of an adapter, of the module itself, or in what would come out (E_WEIGHTS_NONFINITE).
    """
    own = [_own(module, name) for name in NAMES]
    likes = [tensor.dtype if tensor is not None else None for tensor in own]
    if weight is not None:
        own[0] = weight
    if any(tensor is not None and tensor.is_meta for tensor in own):
        raise UnsupportedError(
            f"{ports[0].site.path}: its weights are not in memory (device 'meta'), so nothing can be folded into them",
            hint="load the base without offloading",
        )
    now: Pair = tuple(None if tensor is None else finer(tensor) for tensor in own)  # type: ignore[assignment]
    before = now
    for port in ports:
        now = _folded(port, module, *now)
    changed: dict[str, Tensor] = {}
    rounding = 0.0
    for i, (name, new) in enumerate(zip(NAMES, now, strict=True)):
        if new is None or new is before[i]:
            continue
        _check(name, new, ports, module)
        like = likes[i] or likes[0] or new.dtype
        made = (
            new.contiguous() if own[i] is not None else new.clone()
        )  # a bias that is all an adapter's stays the adapter's
        if made.dtype != like:
            made = _rounded(name, new, like, ports)
            rounding = max(rounding, (made.to(new.dtype) - new).abs().max().item())
        changed[name] = made
    return Folded(changed, rounding)


def _own(module: nn.Module, name: str) -> Tensor | None:
    tensor = module._parameters.get(name)
    return None if tensor is None else tensor.detach()


def _folded(port: Port, module: nn.Module, weight: Tensor | None, bias: Tensor | None) -> Pair:
    try:
        leaf = reduced(port.expr, port.found)
    except Irreducible:
        return _plus((weight, bias), _added(port.expr, port, module, weight, bias))
    if leaf is None:
        return weight, bias
    return _possible(leaf, leaf.method.fold(leaf, port.site, module, weight, bias), port.expr)


def _added(expr: Expr, port: Port, module: nn.Module, weight: Tensor | None, bias: Tensor | None) -> Pair:
    """What an expression adds to a weight and a bias."""
    if expr is None or isinstance(expr, str):
        leaf = port.found.get(expr) if expr else None
        if leaf is None:
            return None, None
        return _possible(leaf, leaf.method.weight_delta(leaf, port.site, module, weight, bias), expr)
    total: Pair = (None, None)
    if isinstance(expr, Stack):
        for child in reversed(expr.children) if port.site.port == "input" else expr.children:
            total = _plus(total, _added(child, port, module, *_plus((weight, bias), total)))
        return total
    if isinstance(expr, Average):
        for child, share in zip(expr.children, expr.shares, strict=True):
            part = _added(child, port, module, weight, bias)
            total = _plus(total, tuple(None if one is None else one * share for one in part))  # type: ignore[arg-type]
        return total
    if not any(name in port.found for name in leaves(expr)):
        return total
    raise UnfoldableError(f"{type(expr).__name__} is no change of weights: {expr}")


def _plus(one: Pair, other: Pair) -> Pair:
    pairs = zip(one, other, strict=True)
    weight, bias = (right if left is None else left if right is None else left + right for left, right in pairs)
    return weight, bias


def _possible(leaf: Leaf, pair: Pair | None, expr: Expr) -> Pair:
    if pair is None or leaf.tap is not None:  # what reads another module's input is no change of this one
        raise UnfoldableError(f"{text(expr)} ({leaf.method.name}) is no change of weights")
    return pair


def _check(name: str, new: Tensor, ports: Sequence[Port], module: nn.Module) -> None:
    """One pass over the numbers; who is to blame is looked for only when there is something."""
    if math.isfinite(new.sum().item()) or finite(new):
        return
    path = ports[0].site.path
    for port in ports:
        check_leaves(path, port.found)
    own = _own(module, name)
    if own is not None and own.is_floating_point() and not finite(own):
        raise WeightsError(f"{path}: the base's own {name} holds NaN or infinity", id="E_WEIGHTS_NONFINITE")
    raise _overflow(name, ports, new.dtype)


def _rounded(name: str, new: Tensor, dtype: torch.dtype, ports: Sequence[Port]) -> Tensor:
    made = new.to(dtype).contiguous()
    if not finite(made):
        raise _overflow(name, ports, dtype)
    return made


def _overflow(name: str, ports: Sequence[Port], dtype: torch.dtype) -> WeightsError:
    path, expr = ports[0].site.path, " and ".join(dict.fromkeys(text(port.expr) for port in ports))
    kind = str(dtype).removeprefix("torch.")
    return WeightsError(
        f"{path}: with {expr} folded in, its {name} would go beyond the numbers of {kind}", id="E_WEIGHTS_NONFINITE"
    )


def check_leaves(path: str, found: Mapping[str, Leaf]) -> None:
    """Refuse leaves with NaN or infinity.

    Raises:
        WeightsError: names the module and the adapter (E_WEIGHTS_NONFINITE).
    """
    for name, leaf in found.items():
        for key, tensor in leaf.tensors.items():
            if tensor.is_floating_point() and not finite(tensor):
                raise WeightsError(f"{path}: '{name}' holds NaN or infinity in {key}", id="E_WEIGHTS_NONFINITE")
