"""Compositions as entries: what their expression names, what they require, and what they expand to. No torch, no I/O.

An entry of kind composition has an `expression` in the text form, whose leaves are names of index entries, and `requires`: a
version range for each of them. A fusion has `requires` alone: the adapters it was trained over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import NamedTuple, Protocol

from hubcli.composition import MAX_CHILDREN, MAX_DEPTH, Block, Expr, fusions, leaves, parse
from hubcli.errors import BaseMismatchError, EntryError, ExpressionError
from hubcli.manifest import Release, Resolved

COMPOSITION, FUSION = "composition", "fusion"
MAX_PARTS = 256
MAX_ROUNDS = 2 * MAX_DEPTH


class Need(NamedTuple):
    """A version range (`spec`, "" for any) that someone (`by`, as a person would say it) has for a name."""

    spec: str
    by: str


class Part(Protocol):
    """A release as resolved, or the record of an installed one."""

    @property
    def name(self) -> str:
        """`group/name`."""

    @property
    def version(self) -> str:
        """Its version."""

    @property
    def kind(self) -> str:
        """adapter, composition or fusion."""

    @property
    def release(self) -> Release:
        """What its index promises."""


def shown_method(kind: str, method: str | None) -> str | None:
    """What stands in a column of methods: the kind, of what has no method of its own."""
    return method or (None if kind == "adapter" else kind)


def names(expr: Expr) -> tuple[str, ...]:
    """All names of an expression: its leaves, and the fusions that its `Fuse` blocks are mixed by."""
    return tuple(dict.fromkeys([*leaves(expr), *fusions(expr)]))


def renamed(expr: Expr, rename: Callable[[str], Expr]) -> Expr:
    """The expression with each name replaced, that of a fusion (`by`) included."""
    if not isinstance(expr, Block):
        return None if expr is None else rename(expr)
    options = {key: getattr(expr, key) for key in expr.options}
    if options.get("by"):
        options["by"] = rename(options["by"])
    return type(expr)(*(renamed(child, rename) for child in expr.children), **options)


def requirements(part: Part) -> Mapping[str, str]:
    """Name → version range of what a composition or a fusion is made of; nothing for an adapter."""
    return {} if part.kind == "adapter" else part.release.requires


def gather(wants: Mapping[str, Need], pick: Callable[[str, tuple[Need, ...]], Resolved]) -> dict[str, Resolved]:
    """What is wanted and all that it requires, one release a name; every requirement comes before what needs it.

    No solver: each name is picked alone, by all ranges that those in the result have for it. Picking is repeated where a
    requirement became known late.

    Args:
        wants: name → what a person asked for.
        pick: the release for a name under these needs; raises where none fits.

    Raises:
        EntryError: E_CYCLE, a composition requires itself in the end; E_REQUIRES, the limits, or ranges that never settle.
        BaseMismatchError: two requirements of one composition are for different bases.
    """
    chosen: dict[str, Resolved] = {}
    picked = cache(pick)
    for _ in range(MAX_ROUNDS):
        needs = _needs(wants, chosen)
        found = {name: picked(name, tuple(dict.fromkeys(given))) for name, given in needs.items()}
        if {n: r.version for n, r in found.items()} == {n: r.version for n, r in chosen.items()}:
            for part in found.values():
                check_bases(part, found)
            return found
        chosen = found
    raise EntryError(f"the requirements of {', '.join(wants)} do not settle on one version a name", id="E_REQUIRES")


def _needs(wants: Mapping[str, Need], chosen: Mapping[str, Resolved]) -> dict[str, list[Need]]:
    """Name → all ranges for it, of the wanted and what they require as chosen so far; requirements come first."""
    needs: dict[str, list[Need]] = {name: [need] for name, need in wants.items()}
    order: dict[str, None] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise cycle((*path[path.index(name) :], name))
        if len(path) > MAX_DEPTH:
            raise EntryError(
                f"{path[0]}: compositions within compositions, more than {MAX_DEPTH} deep", id="E_REQUIRES"
            )
        if name in order:
            return
        part = chosen.get(name)
        for required, spec in requirements(part).items() if part else ():
            needs.setdefault(required, []).append(Need(spec, f"{name} {part.version}"))  # type: ignore[union-attr]
            visit(required, (*path, name))
        order[name] = None

    for name in wants:
        visit(name, ())
        if len(order) > MAX_PARTS + len(wants):
            raise EntryError(f"{name} requires more than {MAX_PARTS} others", id="E_REQUIRES")
    return {name: needs[name] for name in order}


def cycle(path: Iterable[str]) -> EntryError:
    """The error of a composition that requires itself in the end."""
    return EntryError(f"a composition can't require itself: {' → '.join(path)}", id="E_CYCLE")


def check_bases(part: Part, found: Mapping[str, Part]) -> None:
    """Stop where two parts of a composition say that they are for different bases.

    Raises:
        BaseMismatchError: both are named.
    """
    bases = {n: found[n].release.base for n in requirements(part) if n in found}
    bases[f"{part.name} itself"] = part.release.base
    known = [(name, base.id) for name, base in bases.items() if base is not None]
    for name, base in known[1:]:
        if base != known[0][1]:
            raise BaseMismatchError(
                f"{part.name} {part.version} composes adapters of different bases: "
                f"{known[0][0]} for {known[0][1]}, {name} for {base}"
            )


def closure(name: str, found: Mapping[str, Resolved]) -> tuple[Resolved, ...]:
    """All that a name requires, directly or not, each before what needs it; in the order of `found`."""
    reached: set[str] = set()
    ahead = [*requirements(found[name])]
    while ahead:
        required = ahead.pop()
        if required in found and required not in reached:
            reached.add(required)
            ahead += requirements(found[required])
    return tuple(part for part in found.values() if part.name in reached)


def expand(part: Part, part_of: Callable[[str], Part]) -> Expr:
    """The expression of a composition, each leaf a ref with the exact version; compositions in it expanded too.

    Raises:
        ExpressionError: more than `MAX_CHILDREN` leaves in all, or nested too deep.
        EntryError: E_CYCLE, E_REQUIRES.
    """
    counts: dict[str, int] = {}
    trees: dict[str, Expr] = {}

    def of(name: str, path: tuple[str, ...]) -> Expr:
        if name in path:
            raise cycle((*path[path.index(name) :], name))
        if name not in trees:
            found = part_of(name)
            trees[name], counts[name] = f"{name}@{found.version}", 1
            if found.kind == COMPOSITION:
                trees[name] = tree(found, (*path, name))
        return trees[name]

    def tree(item: Part, path: tuple[str, ...]) -> Expr:
        expr = renamed(parse(item.release.expression or ""), lambda name: of(name, path))
        counts[item.name] = sum(counts[name] for name in _every_leaf(parse(item.release.expression or "")))
        if counts[item.name] > MAX_CHILDREN:
            message = f"{item.name} {item.version} expands to {counts[item.name]} leaves"
            raise ExpressionError(f"{message}; at most {MAX_CHILDREN} are allowed")
        return expr

    return tree(part, (part.name,))


def _every_leaf(expr: Expr) -> Iterator[str]:
    if isinstance(expr, str):
        yield expr
    elif isinstance(expr, Block):
        for child in expr.children:
            yield from _every_leaf(child)
