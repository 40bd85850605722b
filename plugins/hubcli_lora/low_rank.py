"""The change of one module's weight, as a product of two thin matrices or whole, and what linear algebra does with it.

Shapes: a (groups, rank, in), b (groups, out, rank), a whole one (groups, out, in). The groups are a convolution's; else there
is one. Everything is in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Thin:
    """b · a."""

    a: Tensor
    b: Tensor


Change: TypeAlias = Thin | Tensor


def whole(change: Change) -> Tensor:
    """The change multiplied out."""
    return change if isinstance(change, Tensor) else change.b @ change.a


def total(changes: Sequence[tuple[Change, float]]) -> Change:
    """The weighted sum: a stacked, b side by side times the weight; multiplied out where one of them is whole."""
    thin = [(change, weight) for change, weight in changes if isinstance(change, Thin)]
    if len(thin) == len(changes):
        return Thin(torch.cat([c.a for c, _ in thin], 1), torch.cat([c.b * w for c, w in thin], 2))
    return torch.stack([whole(change) * weight for change, weight in changes]).sum(0)


def size(change: Change) -> float:
    """Its Frobenius norm. A thin one is never multiplied out: what is left of a and b after QR has the product's norm."""
    if isinstance(change, Tensor):
        return float(torch.linalg.vector_norm(change))
    left, right = (torch.linalg.qr(half, mode="r").R for half in (change.b, change.a.mT))
    return float(torch.linalg.vector_norm(left @ right.mT))


def apart(one: Change, other: Change) -> float:
    """The Frobenius norm of the difference."""
    return size(total([(one, 1.0), (other, -1.0)]))


def cut(change: Change, rank: int | None, energy: float | None) -> Thin:
    """The nearest change of at most `rank`, or the one of the lowest rank that keeps the share `energy` of Σσ².

    The rank is at least 1 in each group, the same in all, and none is kept that adds nothing to working precision.
    """
    u, values, v = _decomposed(change)
    kept = _kept(values, rank, energy)
    roots = values[:, :kept].sqrt()
    return Thin(roots.unsqueeze(2) * v[:, :kept], u[:, :, :kept] * roots.unsqueeze(1))


def _decomposed(change: Change) -> tuple[Tensor, Tensor, Tensor]:
    """The singular value decomposition of each group; of a thin one through QR, so that only rank × rank is decomposed."""
    if isinstance(change, Tensor):
        u, values, v = torch.linalg.svd(change, full_matrices=False)
        return u, values, v
    left, inner = torch.linalg.qr(change.b)
    right, outer = torch.linalg.qr(change.a.mT)
    u, values, v = torch.linalg.svd(inner @ outer.mT, full_matrices=False)
    return left @ u, values, v @ right.mT


def _kept(values: Tensor, rank: int | None, energy: float | None) -> int:
    squares = values.square().sum(0)  # over groups
    everything = float(squares.sum())
    floor = float(values.max()) * torch.finfo(values.dtype).eps * max(values.shape)
    most = max(1, int((values > floor).any(0).sum()))
    if energy is not None and everything > 0:
        missing = everything - squares.cumsum(0)
        most = min(most, 1 + int((missing > (1 - energy) * everything).sum()))
    return most if rank is None else min(most, max(1, rank // values.shape[0]))
