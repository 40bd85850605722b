"""A slow and obvious reference: plain hooks that call `delta` (or `keys_values`) and nothing else of a method.

It shares no code with the core's plans and interpreter, so that what those make of `apply`, `merge` and `chain` can be held
against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hubcli.adapted import Adapted
from hubcli.adapter import cast, place
from hubcli.composition import Average, BatchSplit, Expr, Fuse, Parallel, Split, Stack, fusions, leaves
from hubcli.errors import UnsupportedError
from hubcli.method import ATTENTION, Leaf, Site
from hubcli.testing.masses import attending
from hubcli.testing.models import output

PORTS = ("input", "output", ATTENTION)


def reference(handle: Adapted, expr: Expr, inputs: dict[str, Tensor], *, rows: Sequence[Expr] | None = None) -> Tensor:
    """The logits under a composition of loaded adapters without heads, or under one expression a row.

    Rows and the children of Parallel are runs of their own, of which each gives its part.

    Raises:
        UnsupportedError: a site at another port than a module's input or output.
    """
    if rows is not None:
        return torch.stack([reference(handle, one, inputs)[i] for i, one in enumerate(rows)])
    return torch.cat([_run(handle, one, inputs) for one in _apart(expr)])


def _apart(expr: Expr) -> list[Expr]:
    """What the children of a Parallel amount to, with the Stacks around it; the expression alone where there is none."""
    if isinstance(expr, Parallel):
        return list(expr.children)
    if isinstance(expr, Stack):
        found: list[tuple[Expr, ...]] = [()]
        for child in expr.children:
            found = [(*before, one) for one in _apart(child) for before in found]
        return [Stack(*children) for children in found]
    return [expr]


def _run(handle: Adapted, expr: Expr, inputs: dict[str, Tensor]) -> Tensor:
    found: dict[Site, dict[str, Leaf]] = {}
    for name in (*leaves(expr), *fusions(expr)):
        adapter = handle.engine.adapters[name]
        for site, tensors in adapter.sites.items():
            if site.port not in PORTS:
                raise UnsupportedError(f"{site.path}: the reference knows no port '{site.port}'")
            module = handle.structure.modules[site.path]
            placed = cast(tensors, *place(module))
            leaf = adapter.method.leaf(site, module, adapter.settings, placed, False)
            found.setdefault(site, {})[name] = leaf
            leaf.tap = site.tap
    undo: list[Callable[[], None]] = []
    try:
        with handle.using(None):
            for site, here in found.items():
                undo.extend(_hooked(handle, site, here, expr))
            return output(handle.model, inputs)
    finally:
        for one in undo:
            one()


def _hooked(handle: Adapted, site: Site, here: dict[str, Leaf], expr: Expr) -> list[Callable[[], None]]:
    """What takes the hooks of one site off again, and those of the taps that its leaves read."""
    module, seen = handle.structure.modules[site.path], dict[str | None, Tensor]()
    if site.port == ATTENTION:
        return [attending(module, expr, here)]

    def listen(tap: str | None) -> Callable[..., None]:
        def hear(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen[tap] = args[0] if args else next(iter(kwargs.values()))

        return hear

    def change(value: Tensor) -> Tensor:
        return value + added(expr, here, module, seen, value)

    def on_input(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        first = next(iter(kwargs))
        return args, {**kwargs, first: change(kwargs[first])}

    def on_output(_: nn.Module, args: Any, out: Any) -> Any:
        del args
        return (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)

    taps = {leaf.tap for leaf in here.values()} - {None}
    undo: list[Any] = [
        handle.structure.modules[tap].register_forward_pre_hook(listen(tap), with_kwargs=True) for tap in taps if tap
    ]
    undo.append(module.register_forward_pre_hook(listen(None), with_kwargs=True))
    if site.port == "input":
        undo.append(module.register_forward_pre_hook(on_input, with_kwargs=True))
    else:
        undo.append(module.register_forward_hook(on_output))
    return [hook.remove for hook in undo]


def added(
    expr: Expr, here: dict[str, Leaf], module: nn.Module, seen: dict[str | None, Tensor], value: Tensor
) -> Tensor:
    """What a composition adds to a value, by the definition of its blocks."""
    if expr is None or (isinstance(expr, str) and expr not in here):
        return value * 0
    if isinstance(expr, str):
        leaf = here[expr]
        return leaf.method.delta(leaf, module, seen[leaf.tap], value)
    if isinstance(expr, Stack):
        total = value * 0
        for child in expr.children:
            total = total + added(child, here, module, seen, value + total)
        return total
    if isinstance(expr, Average):
        total = value * 0
        for child, weight in zip(expr.children, expr.shares, strict=True):
            total = total + weight * added(child, here, module, seen, value)
        return total
    if isinstance(expr, Split | BatchSplit):
        return _cut(expr, here, module, seen, value)
    if isinstance(expr, Fuse):
        return _fused(expr, here, module, value, [added(child, here, module, seen, value) for child in expr.children])
    raise UnsupportedError(f"the reference does not know {type(expr).__name__}")


def _fused(expr: Fuse, here: dict[str, Leaf], module: nn.Module, value: Tensor, deltas: list[Tensor]) -> Tensor:
    """AdapterFusion, one child after the other: attention of a query, made of the value, over the children's deltas."""
    if expr.by is None or expr.by not in here:
        return value * 0
    leaf = here[expr.by]
    t = leaf.tensors
    query = module.forward(value) if leaf.form == "norm" else value
    if leaf.form == "channels":
        query, deltas = query.movedim(1, -1), [delta.movedim(1, -1) for delta in deltas]
    if "query_weight" in t:
        query = query @ t["query_weight"].T + t["query_bias"]
    scores = []
    for delta in deltas:
        key = delta @ t["key_weight"].T + t["key_bias"] if "key_weight" in t else delta
        scores.append((query * key).sum(-1))
    shares = torch.stack(scores).softmax(0).unsqueeze(-1)
    mix = (shares * torch.stack(torch.broadcast_tensors(*deltas))).sum(0)  # type: ignore[no-untyped-call]
    mix = mix @ t["value_weight"].T if "value_weight" in t else mix
    return mix.movedim(-1, 1) if leaf.form == "channels" else mix


def _cut(
    expr: Split | BatchSplit, here: dict[str, Leaf], module: nn.Module, seen: dict[str | None, Tensor], value: Tensor
) -> Tensor:
    """Each child on its own rows or positions. Without positions (a pooler): the child that holds the first one."""
    if isinstance(expr, Split) and value.dim() == 2:
        return added(_first(expr), here, module, seen, value)
    rows = isinstance(expr, BatchSplit)
    if rows and value.shape[0] == 1:  # the same for every row, as position embeddings are
        value = torch.cat([value] * sum(expr.sizes))
    parts, start = [], 0
    for child, size in zip(expr.children, expr.sizes, strict=True):
        place = slice(start, start + size)
        at = (place,) if rows else (slice(None), place)
        wide = {tap: torch.cat([x] * sum(expr.sizes)) if rows and x.shape[0] == 1 else x for tap, x in seen.items()}
        parts.append(added(child, here, module, {tap: x[at] for tap, x in wide.items()}, value[at]))
        start += size
    return torch.cat(parts, 0 if rows else 1)


def _first(expr: Split) -> Expr:
    return next(child for child, size in zip(expr.children, expr.sizes, strict=True) if size > 0)
