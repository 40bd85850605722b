"""Compositions at the attention port: every one of them is some more keys and values, seen by some queries, with some mass.

A prefix adds keys and values that each query attends to beside its own. Its softmax mass mixes it in: attention over
concatenated keys equals the two attentions joined by `logaddexp` of their masses, on fully masked rows too. So a `Stack` is a
concatenation, an `Average` multiplies its children's masses by their weights, and a cut on an axis says which rows or positions
see which prefix. What is frozen is joined once, when the program is made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from hubcli.composition import Average, BatchSplit, Expr, Parallel, Split, Stack, leaves
from hubcli.errors import ExpressionError, UnsupportedError
from hubcli.extras import Extra, by_row, joined, made, standing, taken
from hubcli.method import Leaf
from hubcli.route import Route


class Node(Protocol):
    """A part of a composition at one attention module."""

    def __call__(self, module: nn.Module, rows: int, queries: int) -> Extra | None:
        """What `rows` rows of `queries` queries get; None for nothing."""
        ...


@dataclass(slots=True, eq=False)
class Fixed:
    """What is frozen, the same for every row and query."""

    extra: Extra

    def __call__(self, module: nn.Module, rows: int, queries: int) -> Extra:
        """As it is."""
        del module, rows, queries
        return self.extra


@dataclass(slots=True, eq=False)
class Live:
    """A leaf that trains: its keys and values are made in each forward."""

    leaf: Leaf

    def __call__(self, module: nn.Module, rows: int, queries: int) -> Extra:
        """Its keys and values."""
        del rows, queries
        return made(self.leaf, module)


@dataclass(slots=True, eq=False)
class Joined:
    """Several at once; `logs` are added to their masses, None where every weight is 1."""

    nodes: list[Node]
    logs: Tensor | None = None

    def __call__(self, module: nn.Module, rows: int, queries: int) -> Extra | None:
        """Concatenated."""
        return joined([node(module, rows, queries) for node in self.nodes], self.logs)


@dataclass(slots=True, eq=False)
class CutRows:
    """A node for each part of the batch: `sizes` rows, or equal parts where None."""

    expr: Expr
    nodes: list[Node | None]
    sizes: tuple[int, ...] | None

    def __call__(self, module: nn.Module, rows: int, queries: int) -> Extra | None:
        """Each row its own."""
        sizes = _sizes(self.expr, self.sizes, len(self.nodes), rows, "rows in the batch")
        parts = [None if node is None else node(module, n, queries) for node, n in zip(self.nodes, sizes, strict=True)]
        return by_row(parts, sizes)


@dataclass(slots=True, eq=False)
class CutQueries:
    """A node for each part of the sequence."""

    expr: Expr
    nodes: list[Node | None]
    sizes: tuple[int, ...]

    def __call__(self, module: nn.Module, rows: int, queries: int) -> Extra | None:
        """Each query sees the prefix of its own part."""
        sizes = _sizes(self.expr, self.sizes, len(self.nodes), queries, "positions in the sequence")
        parts: list[Extra | None] = []
        start = 0
        for node, n in zip(self.nodes, sizes, strict=True):
            found = node(module, rows, n) if node is not None and n else None
            parts.append(None if found is None else standing(found, start, n, queries))
            start += n
        return joined(parts)


@dataclass(slots=True, eq=False)
class Routed:
    """A node for each group of rows."""

    route: Route
    nodes: list[Node | None]

    def __call__(self, module: nn.Module, rows: int, queries: int) -> Extra | None:
        """Each row its own group's."""
        _check_rows(self.route, rows)
        groups = zip(self.nodes, self.route.sizes, strict=True)
        parts = [None if node is None else node(module, n, queries) for node, n in groups]
        whole = by_row(parts, self.route.sizes)
        return whole if whole is None or self.route.back is None else taken(whole, self.route.back)


@dataclass(slots=True, eq=False)
class Bank:
    """Groups of rows whose prefixes are all frozen: padded side by side once, picked by row."""

    route: Route
    bank: Extra

    def __call__(self, module: nn.Module, rows: int, queries: int) -> Extra:
        """Each row its own group's."""
        del module, queries
        _check_rows(self.route, rows)
        return self.bank if self.route.even and self.route.widest == 1 else taken(self.bank, self.route.group)


def plan_prefixes(expr: Expr, found: Mapping[str, Leaf], module: nn.Module) -> Node | None:
    """The node of one attention module; `found` are the leaves that live there, by adapter name; None for nothing.

    Raises:
        UnsupportedError: a negative weight in an `Average`, or a block that this port does not know.
    """
    if not any(name in found for name in leaves(expr)):
        return None
    if isinstance(expr, str):
        leaf = found[expr]
        if leaf.trainable:
            return Live(leaf)
        with torch.no_grad():
            return Fixed(made(leaf, module))
    if isinstance(expr, Stack | Average):
        return _sum(expr, found, module)
    if isinstance(expr, Split | BatchSplit | Parallel):
        nodes = [plan_prefixes(child, found, module) for child in expr.children]
        if isinstance(expr, Split):
            return CutQueries(expr, nodes, tuple(expr.sizes))
        return CutRows(expr, nodes, tuple(expr.sizes) if isinstance(expr, BatchSplit) else None)
    raise UnsupportedError(f"{type(expr).__name__} can't act on attention: {expr}")


def plan_prefix_rows(route: Route, found: Mapping[str, Leaf], module: nn.Module) -> Node | None:
    """The node of one attention module for one expression a row."""
    nodes = [plan_prefixes(expr, found, module) for expr in route.exprs]
    if all(node is None for node in nodes):
        return None
    if not all(node is None or isinstance(node, Fixed) for node in nodes):
        return Routed(route, nodes)
    bank = by_row([node.extra if isinstance(node, Fixed) else None for node in nodes], [1] * len(nodes))
    assert bank is not None
    return Bank(route, bank)


def _sum(expr: Stack | Average, found: Mapping[str, Leaf], module: nn.Module) -> Node | None:
    shares = expr.shares if isinstance(expr, Average) else (1.0,) * len(expr.children)
    pairs = [(plan_prefixes(child, found, module), w) for child, w in zip(expr.children, shares, strict=True)]
    if any(node is not None and w < 0 for node, w in pairs):
        raise UnsupportedError(
            f"{expr}: on attention a weight multiplies a prefix's softmax mass, so it can't be negative"
        )
    kept = [(node, w) for node, w in pairs if node is not None and w > 0]
    if not kept:
        return None
    nodes = [node for node, _ in kept]
    logs = None if all(w == 1.0 for _, w in kept) else torch.tensor([math.log(w) for _, w in kept], dtype=torch.float64)
    if len(nodes) == 1 and logs is None:
        return nodes[0]
    if all(isinstance(node, Fixed) for node in nodes):
        whole = joined([node.extra for node in nodes if isinstance(node, Fixed)], logs)
        assert whole is not None
        return Fixed(whole)
    return Joined(nodes, logs)


def _check_rows(route: Route, rows: int) -> None:
    if rows != route.n:
        route.check(rows)
        raise UnsupportedError(f"rows= names {route.n} rows, but attention here runs once for all of them")


def _sizes(expr: Expr, given: tuple[int, ...] | None, k: int, found: int, what: str) -> Sequence[int]:
    if given is None:
        if found % k:
            raise ExpressionError(f"{expr}: {k} children need a batch that {k} divides, found {found} rows")
        return [found // k] * k
    if sum(given) != found:
        raise ExpressionError(f"{expr}: sizes {list(given)} add up to {sum(given)}, found {found} {what}")
    return given
