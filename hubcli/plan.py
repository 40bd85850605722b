"""Plans: a composition made into one step a site, so that a forward decides nothing.

What reduces to one leaf becomes one call; a stack becomes calls in sequence; groups of rows become a bank where their method has
one, else a step of steps, as do other cuts on an axis; the rest goes to the interpreter. The plan names no method, and is only
ever a cache: weights live in the adapters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hubcli.banks import Columns, Shelf
from hubcli.composition import Average, BatchSplit, Expr, Fuse, Parallel, Split, Stack, fusions, leaves, text
from hubcli.method import Groups, Leaf
from hubcli.positions import Shift
from hubcli.route import Route, Rows
from hubcli.sites import Step
from hubcli.steps import Banked, Cut, Fused, Interpret, InTurn, Routed, Single


@dataclass(eq=False)
class Program:
    """What every site does under one expression: `steps[i]` for site i, None where nothing happens.

    `rows` are one expression a batch row, or None; `copies` how many times a batch is repeated on entry (Parallel);
    `head` names the adapter whose head answers under a Fuse; `shift` moves the tokens' positions, or None; `made` are the
    leaves that were merged or banked for it; `trunk` where among the layers the batch is repeated (`hubcli.trunk`).
    """

    expr: Expr
    rows: Rows | None = None
    head: str | None = None
    steps: list[Any] = field(default_factory=list)
    copies: int = 1
    shift: Shift | None = None
    made: tuple[Leaf, ...] = ()
    trunk: int | None = None

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


def plan(expr: Expr, found: Mapping[str, Leaf], shelf: Shelf) -> Step | None:
    """The step of one site; `found` are the leaves that live there, by adapter name."""
    if not any(name in found for name in leaves(expr)):
        return None
    try:
        leaf = reduced(expr, found)
        return None if leaf is None else Single(leaf)
    except Irreducible:
        pass
    if isinstance(expr, Stack):
        steps = [step for child in expr.children if (step := plan(child, found, shelf)) is not None]
        return steps[0] if len(steps) == 1 else InTurn(steps)
    if isinstance(expr, Split | BatchSplit | Parallel):
        return _cut(expr, found, shelf)
    if isinstance(expr, Fuse) and expr.by is not None:
        return Fused(found[expr.by], [_child(child, found) for child in expr.children])
    return Interpret(expr, dict(found))


def _child(expr: Expr, found: Mapping[str, Leaf]) -> Leaf | Interpret | None:
    try:
        return reduced(expr, found)
    except Irreducible:
        return Interpret(expr, dict(found))


def plan_rows(route: Route, found: Mapping[str, Leaf], shelf: Shelf) -> Step | None:
    """The step of one site for one expression a row."""
    steps = [plan(expr, found, shelf) for expr in route.exprs]
    if all(step is None for step in steps):
        return None
    return _banked(_columns(route.exprs, found), route, Routed(route, steps), shelf)


def _cut(expr: Split | BatchSplit | Parallel, found: Mapping[str, Leaf], shelf: Shelf) -> Step:
    loop = Cut(expr, [plan(child, found, shelf) for child in expr.children])
    if isinstance(expr, Split):
        return loop
    columns = _columns(expr.children, found)
    if isinstance(expr, Parallel) or columns is None or not all(expr.sizes):
        return _banked(columns, None, loop, shelf) if isinstance(expr, Parallel) else loop
    device = next(tensor.device for column in columns for leaf in column for tensor in leaf.tensors.values())
    slices = tuple(str(child) for child, size in enumerate(expr.sizes) for _ in range(size))
    return _banked(columns, Route(slices, device), loop, shelf)


def _banked(columns: Columns | None, route: Route | None, loop: Step, shelf: Shelf) -> Step:
    banks = None if columns is None else shelf.of(columns)
    return loop if columns is None or banks is None else Banked(banks, Groups(len(columns)), route, loop)


def _columns(exprs: Sequence[Expr], found: Mapping[str, Leaf]) -> Columns | None:
    """What each expression does at this site, leaf by leaf in sequence; None: one of them is no sequence, or one trains."""
    try:
        columns = [_sequence(expr, found) for expr in exprs]
    except Irreducible:
        return None
    return None if any(leaf.trainable for column in columns for leaf in column) else columns


def _sequence(expr: Expr, found: Mapping[str, Leaf]) -> list[Leaf]:
    try:
        leaf = reduced(expr, found)
    except Irreducible:
        if not isinstance(expr, Stack):
            raise
        return [leaf for child in expr.children for leaf in _sequence(child, found)]
    return [] if leaf is None else [leaf]


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
        merged.tap, merged.made_of = first.tap, tuple(parts)
    return merged
