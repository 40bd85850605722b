"""Plans: a composition made into one step a site, so that a forward decides nothing.

What reduces to one leaf becomes one call; a stack becomes calls in sequence; cuts on an axis become a step of steps; the rest
goes to the interpreter. The plan names no method, and is only ever a cache: weights live in the adapters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from hubcli.composition import Average, BatchSplit, Expr, Fuse, Parallel, Split, Stack, fusions, leaves, text
from hubcli.errors import ExpressionError
from hubcli.evaluate import BATCH, SEQUENCE, Given, Tapped, cut_sizes, delta, parts_of, picked, widened
from hubcli.fusion import mixed
from hubcli.method import Leaf
from hubcli.positions import Shift
from hubcli.sites import Step

Rows: TypeAlias = tuple[Expr, ...]


@dataclass(eq=False)
class Program:
    """What every site does under one expression: `steps[i]` for site i, None where nothing happens.

    `rows` are one expression a batch row, or None; `copies` how many times a batch is repeated on entry (Parallel);
    `head` names the adapter whose head answers under a Fuse; `shift` moves the tokens' positions, or None.
    """

    expr: Expr
    rows: Rows | None = None
    head: str | None = None
    steps: list[Any] = field(default_factory=list)
    copies: int = 1
    shift: Shift | None = None

    def __str__(self) -> str:
        if self.rows is not None:
            return f"rows=[{', '.join(map(text, self.rows))}]"
        return text(self.expr)

    @property
    def exprs(self) -> Rows:
        """Its expression, or those of its rows."""
        return (self.expr,) if self.rows is None else self.rows

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters and then the fusions it uses, each once."""
        return tuple(dict.fromkeys(name for among in (leaves, fusions) for expr in self.exprs for name in among(expr)))


class Irreducible(Exception):
    """A part of a composition that is no single leaf."""


@dataclass(slots=True, eq=False)
class Single:
    """One leaf."""

    leaf: Leaf

    def __call__(self, module: nn.Module, x: Given, value: Tensor) -> Tensor:
        """The new value."""
        return self.leaf.method.apply(self.leaf, module, picked(x, self.leaf), value)


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


class Route:
    """How the rows of a batch fall into groups that share a step: decided once, used at every site.

    `groups` holds (start, stop) where a group's rows stand together, else an index; `back` puts joined groups in row order,
    None where they are in order already.
    """

    def __init__(self, rows: Rows, device: torch.device):
        members: dict[Expr, list[int]] = {}
        for i, expr in enumerate(rows):
            members.setdefault(expr, []).append(i)
        self.n = len(rows)
        self.exprs = list(members)
        self.sizes = [len(m) for m in members.values()]
        order = [i for m in members.values() for i in m]
        self.index: Tensor | None = None
        self.back: Tensor | None = None
        if order != list(range(self.n)):
            self.index = torch.tensor(order, device=device)
            self.back = torch.argsort(self.index)

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


def plan(expr: Expr, found: Mapping[str, Leaf]) -> Step | None:
    """The step of one site; `found` are the leaves that live there, by adapter name."""
    if not any(name in found for name in leaves(expr)):
        return None
    try:
        leaf = reduced(expr, found)
        return None if leaf is None else Single(leaf)
    except Irreducible:
        pass
    if isinstance(expr, Stack):
        steps = [step for child in expr.children if (step := plan(child, found)) is not None]
        return steps[0] if len(steps) == 1 else InTurn(steps)
    if isinstance(expr, Split | BatchSplit | Parallel):
        return Cut(expr, [plan(child, found) for child in expr.children])
    if isinstance(expr, Fuse) and expr.by is not None:
        return Fused(found[expr.by], [_child(child, found) for child in expr.children])
    return Interpret(expr, dict(found))


def _child(expr: Expr, found: Mapping[str, Leaf]) -> Leaf | Interpret | None:
    try:
        return reduced(expr, found)
    except Irreducible:
        return Interpret(expr, dict(found))


def plan_rows(route: Route, found: Mapping[str, Leaf]) -> Step | None:
    """The step of one site for one expression a row."""
    steps = [plan(expr, found) for expr in route.exprs]
    return Routed(route, steps) if any(step is not None for step in steps) else None


def reduced(expr: Expr, found: Mapping[str, Leaf]) -> Leaf | None:
    """The single leaf that equals the expression at this site; None for nothing.

    Raises:
        Irreducible: there is none. Leaves that train never merge: the copy would go stale.
    """
    if expr is None or isinstance(expr, str):
        return found.get(expr) if expr else None
    if not isinstance(expr, Stack | Average):
        raise Irreducible
    shares = expr.shares if isinstance(expr, Average) else (1.0,) * len(expr.children)
    parts = [(leaf, w) for child, w in zip(expr.children, shares, strict=True) if (leaf := reduced(child, found))]
    if not parts:
        return None
    if len(parts) == 1 and parts[0][1] == 1.0:
        return parts[0][0]
    merged = _merged(expr, [leaf for leaf, _ in parts], [weight for _, weight in parts])
    if merged is None:
        raise Irreducible
    return merged


def _merged(expr: Stack | Average, parts: list[Leaf], weights: list[float]) -> Leaf | None:
    first = parts[0]
    if any(leaf.trainable or leaf.method is not first.method or leaf.form != first.form for leaf in parts):
        return None
    if any(leaf.tap != first.tap for leaf in parts):
        return None
    merged = first.method.chain(parts) if isinstance(expr, Stack) else first.method.merge(parts, weights)
    if merged is not None:
        merged.tap = first.tap
    return merged
