"""More keys and values for an attention, and how several become one: beside each other, row by row, seen by some queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hubcli.method import Leaf


@dataclass(slots=True, eq=False)
class Extra:
    """Keys and values that attention gets beside its own.

    `key` (rows or 1, kv heads, P, head_dim) and `value` likewise. `keep`, boolean, says which query sees which of them, `mass`
    is the log of their weight, added to the scores; both (rows or 1, 1, queries or 1, P), None for all and for 0.
    """

    key: Tensor
    value: Tensor
    keep: Tensor | None = None
    mass: Tensor | None = None

    @property
    def length(self) -> int:
        """P."""
        return self.key.shape[2]


def made(leaf: Leaf, module: nn.Module) -> Extra:
    """The keys and values of one leaf, and the mass that its constants give them."""
    key, value = leaf.method.keys_values(leaf, module)
    log = leaf.constants.get("log_mass", 0.0)
    mass = key.new_full((1, 1, 1, key.shape[1]), log) if log else None
    return Extra(key.unsqueeze(0), value.unsqueeze(0), None, mass)


def joined(parts: Sequence[Extra | None], logs: Tensor | None = None) -> Extra | None:
    """Several, one beside the other, each with its own addend to the mass."""
    if logs is not None:
        parts = [part and _weighed(part, logs[i]) for i, part in enumerate(parts)]
    found = [part for part in parts if part is not None]
    if len(found) < 2:
        return found[0] if found else None
    rows = max(part.key.shape[0] for part in found)
    return Extra(
        torch.cat([part.key.expand(rows, -1, -1, -1) for part in found], 2),
        torch.cat([part.value.expand(rows, -1, -1, -1) for part in found], 2),
        _side_by_side([part.keep for part in found], found, True),
        _side_by_side([part.mass for part in found], found, 0.0),
    )


def _side_by_side(given: Sequence[Tensor | None], parts: Sequence[Extra], default: bool | float) -> Tensor | None:
    known = [one for one in given if one is not None]
    if not known:
        return None
    rows, queries = max(one.shape[0] for one in known), max(one.shape[2] for one in known)
    whole = [
        (known[0].new_full((1, 1, 1, part.length), default) if one is None else one).expand(rows, 1, queries, -1)
        for one, part in zip(given, parts, strict=True)
    ]
    return torch.cat(whole, 3)


def _weighed(part: Extra, log: Tensor) -> Extra:
    mass = part.key.new_zeros((1, 1, 1, part.length)) if part.mass is None else part.mass
    return Extra(part.key, part.value, part.keep, mass + log.to(mass))


def by_row(parts: Sequence[Extra | None], sizes: Sequence[int]) -> Extra | None:
    """Groups of rows, one after the other: padded to the longest, the padding seen by nobody."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    longest = max(part.length for part in known)
    nothing = Extra(known[0].key[:1, :, :0], known[0].value[:1, :, :0])
    given = [part or nothing for part in parts]
    whole = [_padded(part, longest) for part in given]
    rows = list(zip(whole, sizes, strict=True))
    return Extra(
        torch.cat([part.key.expand(n, -1, -1, -1) for part, n in rows], 0),
        torch.cat([part.value.expand(n, -1, -1, -1) for part, n in rows], 0),
        _one_below_another([part.keep for part in whole], whole, sizes, True),
        _one_below_another([part.mass for part in whole], whole, sizes, 0.0),
    )


def _one_below_another(
    given: Sequence[Tensor | None], parts: Sequence[Extra], sizes: Sequence[int], default: bool | float
) -> Tensor | None:
    known = [one for one in given if one is not None]
    if not known:
        return None
    queries, length = max(one.shape[2] for one in known), parts[0].length
    whole = [
        (known[0].new_full((1, 1, 1, length), default) if one is None else one).expand(n, 1, queries, -1)
        for one, n in zip(given, sizes, strict=True)
    ]
    return torch.cat(whole, 0)


def _padded(part: Extra, length: int) -> Extra:
    more = length - part.length
    if not more:
        return part
    keep = torch.ones((1, 1, 1, part.length), dtype=torch.bool, device=part.key.device)
    keep = keep if part.keep is None else part.keep
    return Extra(
        F.pad(part.key, (0, 0, 0, more)),
        F.pad(part.value, (0, 0, 0, more)),
        F.pad(keep, (0, more), value=False),
        None if part.mass is None else F.pad(part.mass, (0, more)),
    )


def standing(part: Extra, start: int, size: int, queries: int) -> Extra:
    """What `size` queries from `start` on see, as seen from all of them."""
    around = (0, 0, start, queries - start - size)
    keep = torch.ones((1, 1, 1, part.length), dtype=torch.bool, device=part.key.device)
    keep = (keep if part.keep is None else part.keep).expand(-1, 1, size, -1)
    mass = None if part.mass is None else F.pad(part.mass.expand(-1, 1, size, -1), around)
    return Extra(part.key, part.value, F.pad(keep, around, value=False), mass)


def taken(extra: Extra, index: Tensor) -> Extra:
    """Rows by index."""
    keep, mass = (
        one if one is None or one.shape[0] == 1 else one.index_select(0, index) for one in (extra.keep, extra.mass)
    )
    return Extra(extra.key.index_select(0, index), extra.value.index_select(0, index), keep, mass)
