"""Compositions: a tree of adapter names. Data only: hashable, exact equality, no torch.

    parse("stack(lang/de, average(a, b, weights=[0.7, 0.3]))")
    Stack("lang/de", Average("a", "b", weights=(0.7, 0.3)))

A leaf is a string (a loaded adapter's name, else a ref) or None, the bare base. `str(block)` is text that `parse` reads
back.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, NoReturn, TypeAlias

from hubcli.errors import ExpressionError

__all__ = [
    "Average",
    "BatchSplit",
    "Block",
    "Expr",
    "Fuse",
    "Parallel",
    "Split",
    "Stack",
    "blocks",
    "fusions",
    "leaves",
    "parse",
    "text",
]

MAX_DEPTH = 16
MAX_CHILDREN = 4096
MAX_LENGTH = 64 * 1024  # characters of text


class Block:
    """A node of the tree; `children` in order. Immutable."""

    __slots__ = ("_hash", "children")
    options: ClassVar[tuple[str, ...]] = ()
    children: tuple[Expr, ...]
    _hash: int

    def __init__(self, *children: Expr):
        _check_children(type(self).__name__, children)
        object.__setattr__(self, "children", children)
        if depth(self) > MAX_DEPTH:
            raise ExpressionError(f"a composition is nested {depth(self)} deep; at most {MAX_DEPTH} are allowed")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable")

    __delattr__ = None  # type: ignore[assignment]

    def mapped(self, rename: Callable[[str], Expr]) -> Block:
        """The same tree with each name replaced by what `rename` makes of it."""
        children = (
            child.mapped(rename) if isinstance(child, Block) else child and rename(child) for child in self.children
        )
        return self.over(children)

    def over(self, children: Iterable[Expr]) -> Block:
        """The same block, its options kept, over other children."""
        return _rebuild(type(self), tuple(children), {name: getattr(self, name) for name in self.options})

    def _key(self) -> tuple[object, ...]:
        return (type(self).__name__, self.children, *(getattr(self, name) for name in self.options))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and self._key() == other._key()

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            object.__setattr__(self, "_hash", hash(self._key()))
            return self._hash

    def __repr__(self) -> str:
        parts = [repr(child) for child in self.children]
        parts += [f"{name}={getattr(self, name)!r}" for name in self.options if getattr(self, name) is not None]
        return f"{type(self).__name__}({', '.join(parts)})"

    def __str__(self) -> str:
        parts = [text(child) for child in self.children]
        parts += [_option(name, getattr(self, name)) for name in self.options if getattr(self, name) is not None]
        return f"{type(self).__name__.lower()}({', '.join(parts)})"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.children, {name: getattr(self, name) for name in self.options})


Expr: TypeAlias = Block | str | None


class Stack(Block):
    """Each child sees the value plus what came before."""

    __slots__ = ()


class Parallel(Block):
    """Each child on a copy of the batch; outputs child-major on the batch axis."""

    __slots__ = ()


class Average(Block):
    """The weighted sum of the children's deltas; weights as given, not normalised; 1/k each by default."""

    __slots__ = ("weights",)
    options = ("weights",)
    weights: tuple[float, ...] | None

    def __init__(self, *children: Expr, weights: Sequence[float] | None = None):
        super().__init__(*children)
        object.__setattr__(self, "weights", None if weights is None else _weights(weights, len(children)))

    @property
    def shares(self) -> tuple[float, ...]:
        """One weight a child, the default spelled out."""
        return self.weights if self.weights is not None else (1 / len(self.children),) * len(self.children)


class Sized(Block):
    """A block that cuts an axis into `sizes`, one a child."""

    __slots__ = ("sizes",)
    options = ("sizes",)
    sizes: tuple[int, ...]

    def __init__(self, *children: Expr, sizes: Sequence[int]):
        super().__init__(*children)
        object.__setattr__(self, "sizes", _sizes(type(self).__name__, sizes, len(children)))


class Split(Sized):
    """Cut along the sequence: the first `sizes[0]` positions go through the first child, and so on."""

    __slots__ = ()


class BatchSplit(Sized):
    """Cut along the batch: the first `sizes[0]` rows go through the first child, and so on."""

    __slots__ = ()


class Fuse(Block):
    """A learned mix of the children's deltas; `by` names the loaded fusion."""

    __slots__ = ("by",)
    options = ("by",)
    by: str | None

    def __init__(self, *children: Expr, by: str | None = None):
        super().__init__(*children)
        if by is not None and (not isinstance(by, str) or not by):
            raise ExpressionError(f"Fuse: by= names a loaded fusion, found {by!r}")
        object.__setattr__(self, "by", by)


BLOCKS: dict[str, type[Block]] = {b.__name__.lower(): b for b in (Stack, Parallel, Average, Split, BatchSplit, Fuse)}


def leaves(expr: Expr) -> tuple[str, ...]:
    """The names in the tree, each once, in order of appearance; None is no name."""
    return tuple(dict.fromkeys(_leaves(expr)))


def fusions(expr: Expr) -> tuple[str, ...]:
    """The fusions that the tree's `Fuse` blocks name, each once, in order of appearance."""
    return tuple(dict.fromkeys(block.by for block in blocks(expr) if isinstance(block, Fuse) and block.by is not None))


def blocks(expr: Expr) -> Iterator[Block]:
    """Every block of the tree, parents first."""
    if isinstance(expr, Block):
        yield expr
        for child in expr.children:
            yield from blocks(child)


def contains(expr: Expr, *kinds: type[Block]) -> bool:
    """Whether a block of one of these kinds stands anywhere in the tree."""
    return any(isinstance(block, kinds) for block in blocks(expr))


def depth(expr: Expr) -> int:
    """Levels of blocks: 0 for a leaf."""
    return 1 + max(map(depth, expr.children), default=0) if isinstance(expr, Block) else 0


def text(expr: Expr) -> str:
    """The text form of any expression, leaves included; `parse` reads it back."""
    if isinstance(expr, str):
        return _quoted(expr)
    return "none" if expr is None else str(expr)


def parse(source: str) -> Expr:
    """Read the text form.

    Raises:
        ExpressionError: not a composition; gives the position (from 1), what was expected and what was found.
    """
    from hubcli.expressions import read

    if len(source) > MAX_LENGTH:
        raise ExpressionError(f"a composition of {len(source)} characters; at most {MAX_LENGTH} are allowed")
    return read(source)


def _leaves(expr: Expr) -> Iterator[str]:
    if isinstance(expr, str):
        yield expr
    elif isinstance(expr, Block):
        for child in expr.children:
            yield from _leaves(child)


def _rebuild(cls: type[Block], children: tuple[Expr, ...], options: dict[str, object]) -> Block:
    return cls(*children, **options)


def _check_children(block: str, children: tuple[Expr, ...]) -> None:
    if not children:
        raise ExpressionError(f"{block} needs at least one child")
    if len(children) > MAX_CHILDREN:
        raise ExpressionError(f"{block} has {len(children)} children; at most {MAX_CHILDREN} are allowed")
    for child in children:
        if isinstance(child, str) and not child.strip():
            raise ExpressionError(f"{block}: an empty name is no adapter")
        if not (child is None or isinstance(child, str | Block)):
            raise ExpressionError(f"{block}: a child is a block, a name or None, found {child!r}")


def _weights(given: Sequence[float], count: int) -> tuple[float, ...]:
    values = tuple(given)
    if any(isinstance(w, bool) or not isinstance(w, int | float) or not math.isfinite(w) for w in values):
        raise ExpressionError(f"Average: weights must be finite numbers, found {list(values)}")
    if len(values) != count:
        raise ExpressionError(f"Average: {count} children need {count} weights, found {len(values)}")
    return tuple(float(w) for w in values)


def _sizes(block: str, given: Sequence[int], count: int) -> tuple[int, ...]:
    values = tuple(given)
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in values):
        raise ExpressionError(f"{block}: sizes must be whole numbers from 0, found {list(values)}")
    if len(values) != count:
        raise ExpressionError(f"{block}: {count} children need {count} sizes, found {len(values)}")
    return values


_BARE = re.compile(r"[^\s,()\[\]=\"'\\]+")
NONE = ("none", "null")


def _quoted(name: str) -> str:
    """A ref with spaces, commas, marks or the look of a keyword, quoted; others as they are."""
    if _BARE.fullmatch(name) and name.lower() not in NONE:
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _option(name: str, value: object) -> str:
    if isinstance(value, str):
        return f"{name}={_quoted(value)}"
    assert isinstance(value, tuple)
    return f"{name}=[{', '.join(map(repr, value))}]"
