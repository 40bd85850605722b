"""What a site does under one program: the steps that plans are made of. No adapter is named in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hubcli.banks import size
from hubcli.composition import BatchSplit, Expr, Parallel, Split
from hubcli.evaluate import BATCH, SEQUENCE, Given, cut_sizes, delta, parts_of, picked, widened
from hubcli.fusion import mixed
from hubcli.method import Groups, Leaf
from hubcli.route import Route
from hubcli.sites import Step

FEW = 16  # tokens in the largest group, up to which moving rows side by side costs less than a loop over groups
LIGHT = 2  # how many times a row's values its weights may weigh for a copy of them to cost less than that loop


@dataclass(slots=True, eq=False)
class Single:
    """One leaf."""

    leaf: Leaf

    def __call__(self, module: nn.Module, x: Given, value: Tensor) -> Tensor:
        """The new value."""
        leaf = self.leaf
        return leaf.method.apply(leaf, module, x if isinstance(x, Tensor) else x[leaf.tap], value)


@dataclass(slots=True, eq=False)
class InTurn:
    """Steps one after the other, each seeing what came before."""

    steps: list[Step]

    def __call__(self, module: nn.Module, x: Given, value: Tensor) -> Tensor:
        """The new value."""
        for step in self.steps:
            value = step(module, x, value)
        return value


@dataclass(slots=True, eq=False)
class Interpret:
    """Whatever the interpreter makes of it."""

    expr: Expr
    leaves: Mapping[str, Leaf]

    def __call__(self, module: nn.Module, x: Given, value: Tensor) -> Tensor:
        """The new value."""
        added = delta(self.expr, self.leaves, module, x, value)
        return value if added is None else value + added


@dataclass(slots=True, eq=False)
class Cut:
    """A step for each part of an axis."""

    block: Split | BatchSplit | Parallel
    steps: list[Step | None]

    def __call__(self, module: nn.Module, x: Given, value: Tensor) -> Tensor:
        """The new value."""
        axis = SEQUENCE if isinstance(self.block, Split) else BATCH
        given = None if isinstance(self.block, Parallel) else self.block.sizes
        if axis == SEQUENCE and value.dim() == 2:
            first = next(step for step, size in zip(self.steps, given or (), strict=True) if size)
            return value if first is None else first(module, x, value)
        sizes = cut_sizes(self.block, given, len(self.steps), axis, x, value)
        values = torch.split(widened(value, sizes, axis), sizes, axis)
        parts = [
            part if step is None else step(module, px, part)
            for step, px, part in zip(self.steps, parts_of(x, sizes, axis), values, strict=True)
        ]
        return torch.cat(parts, axis)


@dataclass(slots=True, eq=False)
class Fused:
    """The learned mix of what the children add. No name is in it: other fusions of the same shapes run the same graph."""

    leaf: Leaf
    children: list[Leaf | Interpret | None]

    def __call__(self, module: nn.Module, x: Given, value: Tensor) -> Tensor:
        """The new value."""
        return value + mixed(self.leaf, module, value, [self.part(child, module, x, value) for child in self.children])

    def part(self, child: Leaf | Interpret | None, module: nn.Module, x: Given, value: Tensor) -> Tensor:
        """One child's delta."""
        if isinstance(child, Leaf):
            return child.method.delta(child, module, picked(x, child), value)
        found = None if child is None else delta(child.expr, child.leaves, module, x, value)
        return torch.zeros_like(value) if found is None else found


@dataclass(slots=True, eq=False)
class Routed:
    """A step for each group of rows."""

    route: Route
    steps: list[Step | None]

    def __call__(self, module: nn.Module, x: Given, value: Tensor) -> Tensor:
        """The new value."""
        self.route.check(value.shape[0])
        parts = [
            part if step is None else step(module, px, part)
            for step, px, part in zip(self.steps, self.route.grouped_inputs(x), self.route.grouped(value), strict=True)
        ]
        return self.route.joined(parts)


@dataclass(slots=True, eq=False)
class Banked:
    """Groups of rows, each with a leaf of its own, by a few matrix products over all of them.

    `banks` are leaves with a leading axis of groups; what a group has none of is zero there. `groups` are equal parts of the
    batch as it stands; `route` says which rows are which group's where it is not that. `loop` does the same group by group, for
    where that costs less.
    """

    banks: list[Leaf]
    groups: Groups
    route: Route | None
    loop: Step

    def __call__(self, module: nn.Module, x: Given, value: Tensor) -> Tensor:
        """The new value."""
        route, rows = self.route, value.shape[0]
        if rows != (rows // self.groups.count * self.groups.count if route is None else route.n):
            return self.loop(module, x, value)
        if route is None or route.even:
            return self.by_group(module, x, value, self.groups)
        if torch.compiler.is_exporting():  # what is exported takes texts of any length
            return self.loop(module, x, value)
        tokens = value.shape[1] if value.dim() > 2 else 1
        if route.widest * tokens <= FEW:
            return self.by_group(module, x, value, route.moved)
        if route.n * sum(map(size, self.banks)) <= LIGHT * self.groups.count * value.numel() * value.element_size():
            return self.by_row(module, x, value, route)
        return self.loop(module, x, value)

    def by_group(self, module: nn.Module, x: Given, value: Tensor, groups: Groups) -> Tensor:
        """The new value, weights standing still."""
        for bank in self.banks:
            value = bank.method.grouped(bank, module, picked(x, bank), value, groups)
        return value

    def by_row(self, module: nn.Module, x: Given, value: Tensor, route: Route) -> Tensor:
        """The new value, rows standing still: each gets a copy of its group's weights."""
        groups = Groups(route.n)
        for bank in self.banks:
            tensors = {name: tensor.index_select(0, route.group) for name, tensor in bank.tensors.items()}
            each = Leaf(bank.method, bank.form, tensors, bank.constants)
            value = bank.method.grouped(each, module, picked(x, bank), value, groups)
        return value


def made_for(step: object) -> Iterator[Leaf]:
    """The leaves that were made for a step, merged or banked."""
    if isinstance(step, Single):
        yield from (step.leaf,) if step.leaf.made_of else ()
    elif isinstance(step, Banked):
        yield from step.banks
        yield from made_for(step.loop)
    elif isinstance(step, InTurn | Cut | Routed):
        for inner in step.steps:
            yield from made_for(inner)
