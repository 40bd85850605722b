"""Which fusion a `Fuse` block means, and what must be true of it on one model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from torch import nn

from hubcli import heads as head_rules
from hubcli.composition import Block, Expr, Fuse, blocks, fusions, leaves, text
from hubcli.errors import ExpressionError, NotFoundError, UnsupportedError
from hubcli.fusion import FUSION, NO_PORT, PORTS
from hubcli.method import Site

if TYPE_CHECKING:
    from hubcli.adapter import Adapter


def named(expr: Expr, adapters: Mapping[str, Adapter]) -> Expr:
    """The expression with `by` filled in where a `Fuse` names none: the one loaded fusion over just these children.

    Raises:
        NotFoundError: there is none. ExpressionError: there are several.
    """
    if not isinstance(expr, Block):
        return expr
    children = tuple(named(child, adapters) for child in expr.children)
    if isinstance(expr, Fuse) and expr.by is None:
        return Fuse(*children, by=_over(children, adapters))
    if children == expr.children:
        return expr
    return expr.over(children)


def named_all(
    expr: Expr, rows: tuple[Expr, ...] | None, adapters: Mapping[str, Adapter]
) -> tuple[Expr, tuple[Expr, ...] | None]:
    """`named` for a program's expression and rows."""
    return named(expr, adapters), None if rows is None else tuple(named(row, adapters) for row in rows)


def _over(children: tuple[Expr, ...], adapters: Mapping[str, Adapter]) -> str:
    loaded = {name: adapter.settings.of for name, adapter in adapters.items() if is_fusion(adapter)}
    found = [name for name, of in loaded.items() if of == children]
    if len(found) == 1:
        return found[0]
    shown = ", ".join(map(text, children))
    if found:
        raise ExpressionError(f"Fuse: several fusions of {shown} are loaded: {', '.join(found)}", hint="say which: by=")
    known = "; ".join(f"'{name}' of {', '.join(map(text, of))}" for name, of in loaded.items()) or "none"
    raise NotFoundError(
        f"Fuse: no fusion of just {shown} is loaded (loaded: {known})", hint="load one, or say which by its name: by="
    )


def is_fusion(adapter: Adapter) -> bool:
    """Whether a resident is a fusion."""
    return adapter.method.name == FUSION


def check_names(exprs: Sequence[Expr], adapters: Mapping[str, Adapter]) -> None:
    """Refuse a fusion where an adapter belongs, and the other way round; all names are loaded.

    Raises:
        ExpressionError: names it.
    """
    for name in (name for expr in exprs for name in leaves(expr)):
        if is_fusion(adapters[name]):
            raise ExpressionError(f"'{name}' is a fusion, not an adapter", hint=f"Fuse(…, by={name!r})")
    for name in (name for expr in exprs for name in fusions(expr)):
        if not is_fusion(adapters[name]):
            raise ExpressionError(f"Fuse: by='{name}': it is an adapter ({adapters[name].method.name}), not a fusion")


def check_site(exprs: Sequence[Expr], site: Site, found: Collection[str]) -> None:
    """Refuse a `Fuse` whose children add something at a site where its fusion has no weights; `found` act there.

    Raises:
        UnsupportedError: names the fusion, the site and a child.
    """
    for block in (block for expr in exprs for block in blocks(expr) if isinstance(block, Fuse)):
        child = next((name for name in leaves(block) if name in found), None)
        if child is None or block.by in found:
            continue
        if site.port not in PORTS:
            raise UnsupportedError(f"Fuse: '{child}' acts at the port '{site.port}' of {site.path}: {NO_PORT}")
        raise UnsupportedError(
            f"Fuse: '{child}' adds something at the {site.port} of {site.path}, where the fusion '{block.by}' has no weights",
            hint="a fusion serves children that act where those act that it was trained on",
        )


def common_heads(
    of: Sequence[Expr], adapters: Mapping[str, Adapter]
) -> tuple[dict[str, nn.Module], tuple[str, ...] | None]:
    """(module path → the head that these children have in common there, its labels); empty, None where there is none."""
    used = {name: adapters[name] for child in of for name in leaves(child)}
    labels = {name: adapter.labels or () for name, adapter in used.items() if adapter.heads}
    found: dict[str, nn.Module] = {}
    for path in {path for adapter in used.values() for path in adapter.heads}:
        twins = {name: adapter.heads[path] for name, adapter in used.items() if path in adapter.heads}
        try:
            step = head_rules.plan_head(Fuse(*of), twins, labels)
        except UnsupportedError:
            return {}, None
        if not isinstance(step, head_rules.Replace):
            return {}, None
        found[path] = step.module
    return found, head_rules.labels_of(Fuse(*of), labels) or None
