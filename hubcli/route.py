"""How the rows of a batch fall into groups that share an expression: decided once a program, used at every site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from hubcli.composition import Expr
from hubcli.errors import ExpressionError
from hubcli.evaluate import BATCH, Given, Tapped, widened
from hubcli.method import Groups

Rows: TypeAlias = tuple[Expr, ...]


class Route:
    """The groups of one list of rows, in the order of first appearance, or in `order`, which names each of them once.

    `sizes` are the groups' rows; `index` brings rows into the groups' order and `back` brings them home, both None where they
    stand so already. `group` is each row's group. `even` says that nothing has to move and all groups are of one size.
    """

    def __init__(self, rows: Rows, device: torch.device, order: Sequence[Expr] | None = None):
        members: dict[Expr, list[int]] = {expr: [] for expr in order or ()}
        for i, expr in enumerate(rows):
            members.setdefault(expr, []).append(i)
        self.n = len(rows)
        self.device = device
        self.exprs = list(members)
        self.members = list(members.values())
        self.sizes = [len(m) for m in self.members]
        self.widest = max(self.sizes)
        flat = [i for m in self.members for i in m]
        self.index: Tensor | None = None
        self.back: Tensor | None = None
        if flat != list(range(self.n)):
            self.index = torch.tensor(flat, device=device)
            self.back = torch.argsort(self.index)
        places = {i: group for group, m in enumerate(self.members) for i in m}
        self.group = torch.tensor([places[i] for i in range(self.n)], device=device)
        self.even = self.index is None and min(self.sizes) == self.widest
        self._moved: Groups | None = None

    def check(self, rows: int) -> None:
        """Refuse a batch of another size."""
        if rows not in (self.n, 1):
            raise ExpressionError(f"rows= names {self.n} rows, found a batch of {rows}")

    def grouped(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """The tensor's rows, cut by group."""
        tensor = widened(tensor, self.sizes, BATCH)
        if self.index is not None:
            tensor = tensor.index_select(0, self.index)
        return torch.split(tensor, self.sizes, BATCH)

    def grouped_inputs(self, x: Given) -> Sequence[Given]:
        """The same for what a site's adapters read."""
        if isinstance(x, Tensor):
            return self.grouped(x)
        cut = {tap: self.grouped(tensor) for tap, tensor in x.items()}
        return [Tapped((tap, parts[i]) for tap, parts in cut.items()) for i in range(len(self.sizes))]

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """Groups back in the order of rows."""
        whole = torch.cat(list(parts), BATCH)
        return whole if self.back is None else whole.index_select(0, self.back)

    @property
    def moved(self) -> Groups:
        """The groups side by side, each as long as the longest: made once."""
        if self._moved is None:
            places = [i for m in self.members for i in (*m, *m[:1] * (self.widest - len(m)))]
            home = [0] * self.n
            for group, m in enumerate(self.members):
                for at, i in enumerate(m):
                    home[i] = group * self.widest + at
            moved, back = (torch.tensor(index, device=self.device) for index in (places, home))
            self._moved = Groups(len(self.sizes), moved, back, self.group)
        return self._moved
