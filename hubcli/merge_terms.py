"""A composition as a weighted sum of adapters, where it is one: weights are multiplied down its Stacks and Averages."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hubcli.composition import Average, Expr, Stack, text
from hubcli.errors import ExpressionError, UnsupportedError


@dataclass(frozen=True, slots=True)
class Terms:
    """A composition as a weighted sum: (name, weight) in order, a name once for each time that it stands there."""

    pairs: tuple[tuple[str, float], ...]
    stacked: bool = False
    averaged: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Each name once."""
        return tuple(dict.fromkeys(name for name, _ in self.pairs))

    @property
    def alone(self) -> bool:
        """Whether it is one adapter, as it is."""
        return len(self.names) == 1 and not self.stacked and math.fsum(weight for _, weight in self.pairs) == 1.0


def terms_of(expr: Expr) -> Terms:
    """The weighted sum that a composition of Stack and Average is; what counts 0 times is left out.

    Raises:
        UnsupportedError: another block in it, by name. ExpressionError: it holds no adapter.
    """
    found = _terms(expr)
    if not found.pairs:
        raise ExpressionError(f"merge: there is nothing to merge in {text(expr)}")
    return found


def _terms(expr: Expr) -> Terms:
    if expr is None or isinstance(expr, str):
        return Terms(() if expr is None else ((expr, 1.0),))
    if not isinstance(expr, Stack | Average):
        raise UnsupportedError(
            f"merge: a {type(expr).__name__} is no sum, so it can't be one adapter: {text(expr)}",
            hint="Stack and Average can; an index entry of kind composition keeps any other",
        )
    shares = expr.shares if isinstance(expr, Average) else (1.0,) * len(expr.children)
    inner = [(_terms(child), weight) for child, weight in zip(expr.children, shares, strict=True) if weight]
    inner = [(terms, weight) for terms, weight in inner if terms.pairs]
    several = len(inner) > 1
    return Terms(
        tuple((name, own * weight) for terms, weight in inner for name, own in terms.pairs),
        any(terms.stacked for terms, _ in inner) or (several and isinstance(expr, Stack)),
        any(terms.averaged for terms, _ in inner) or (several and isinstance(expr, Average)),
    )
