"""The interpreter: a composition × deltas × a value → the delta of the whole. It knows no method.

Deltas, never differences of values: in bfloat16 `(h + d) − h` loses most of `d`. A name with no delta at a site adds zero,
written None here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from hubcli.composition import Average, BatchSplit, Block, Expr, Fuse, Parallel, Split, Stack
from hubcli.errors import ExpressionError, UnsupportedError
from hubcli.fusion import mixed
from hubcli.method import Leaf

SEQUENCE, BATCH = 1, 0


class Tapped(dict[str | None, Tensor]):
    """The inputs that the adapters at one site read: by tap, None for the module's own."""

    def dim(self) -> int:
        """Axes; of the module's own input."""
        return self[None].dim()

    @property
    def shape(self) -> torch.Size:
        """The shape of the module's own input."""
        return self[None].shape


Given: TypeAlias = Tensor | Tapped


def picked(x: Given, leaf: Leaf) -> Tensor:
    """The input that a leaf reads."""
    return x if isinstance(x, Tensor) else x[leaf.tap]


def parts_of(x: Given, sizes: Sequence[int], axis: int) -> Sequence[Given]:
    """Cut along an axis; a batch axis of 1 is expanded first."""
    if isinstance(x, Tensor):
        return torch.split(widened(x, sizes, axis), list(sizes), axis)
    cut = {tap: parts_of(tensor, sizes, axis) for tap, tensor in x.items()}
    return [Tapped((tap, parts[i]) for tap, parts in cut.items()) for i in range(len(sizes))]  # type: ignore[misc]


def delta(expr: Expr, leaves: Mapping[str, Leaf], module: nn.Module, x: Given, value: Tensor) -> Tensor | None:
    """What the composition adds to `value` at one site, of the shape of `value`; None for nothing."""
    if expr is None:
        return None
    if isinstance(expr, str):
        leaf = leaves.get(expr)
        return None if leaf is None else leaf.method.delta(leaf, module, picked(x, leaf), value)
    if isinstance(expr, Stack):
        return _stack(expr, leaves, module, x, value)
    if isinstance(expr, Average):
        return _average(expr, leaves, module, x, value)
    if isinstance(expr, Split | BatchSplit | Parallel):
        return _cut(expr, leaves, module, x, value)
    if isinstance(expr, Fuse):
        return _fuse(expr, leaves, module, x, value)
    raise UnsupportedError(f"{type(expr).__name__} blocks can't be evaluated: {expr}")


def _stack(expr: Block, leaves: Mapping[str, Leaf], module: nn.Module, x: Given, value: Tensor) -> Tensor | None:
    total: Tensor | None = None
    for child in expr.children:
        seen = value if total is None else value + total
        total = _add(total, delta(child, leaves, module, x, seen))
    return total


def _average(expr: Average, leaves: Mapping[str, Leaf], module: nn.Module, x: Given, value: Tensor) -> Tensor | None:
    total: Tensor | None = None
    for child, weight in zip(expr.children, expr.shares, strict=True):
        part = delta(child, leaves, module, x, value)
        total = _add(total, None if part is None else part * weight)
    return total


def _fuse(expr: Fuse, leaves: Mapping[str, Leaf], module: nn.Module, x: Given, value: Tensor) -> Tensor | None:
    parts = [delta(child, leaves, module, x, value) for child in expr.children]
    if expr.by is None or all(part is None for part in parts):
        return None
    return mixed(leaves[expr.by], module, value, [torch.zeros_like(value) if p is None else p for p in parts])


def _cut(expr: Block, leaves: Mapping[str, Leaf], module: nn.Module, x: Given, value: Tensor) -> Tensor:
    axis = SEQUENCE if isinstance(expr, Split) else BATCH
    given = getattr(expr, "sizes", None)
    if axis == SEQUENCE and value.dim() == 2:
        first = next(child for child, size in zip(expr.children, given or (), strict=True) if size)
        part = delta(first, leaves, module, x, value)
        return torch.zeros_like(value) if part is None else part
    sizes = cut_sizes(expr, given, len(expr.children), axis, x, value)
    value = widened(value, sizes, axis)
    parts: list[Tensor] = []
    for child, px, pv in zip(expr.children, parts_of(x, sizes, axis), torch.split(value, sizes, axis), strict=True):
        part = delta(child, leaves, module, px, pv)
        parts.append(torch.zeros_like(pv) if part is None else part)
    return torch.cat(parts, axis)


def _add(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    if total is None or part is None:
        return part if total is None else total
    return total + part


def cut_sizes(block: object, given: Sequence[int] | None, k: int, axis: int, x: Given, value: Tensor) -> list[int]:
    """The sizes to cut an axis into: as given, or `k` equal ones.

    Raises:
        ExpressionError: they don't add up to the axis; the message has both sizes.
        UnsupportedError: this value has no such axis.
    """
    if axis == SEQUENCE and (value.dim() != 3 or x.dim() not in (2, 3) or x.shape[1] != value.shape[1]):
        raise UnsupportedError(f"{block}: a value of shape {tuple(value.shape)} has no sequence axis to cut")
    found = value.shape[axis]
    if given is None:
        if found % k:
            raise ExpressionError(f"{block}: {k} children need a batch that {k} divides, found {found} rows")
        return [found // k] * k
    total = sum(given)
    if total != found and not (axis == BATCH and found == 1):
        what = "positions in the sequence" if axis == SEQUENCE else "rows in the batch"
        raise ExpressionError(f"{block}: sizes {list(given)} add up to {total}, found {found} {what}")
    return list(given)


def widened(tensor: Tensor, sizes: Sequence[int], axis: int) -> Tensor:
    """A batch axis of 1 (position embeddings), repeated for the rows that are cut: each its own, as steps may write into them."""
    total = sum(sizes)
    if axis != BATCH or tensor.shape[0] == total:
        return tensor
    return tensor.expand(total, *tensor.shape[1:]).contiguous()
