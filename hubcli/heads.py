"""Heads: modules that adapters replace, under any composition.

Stack: the last child that has one. Average: the children's outputs (logits), weights rescaled over those that have one, label
maps equal or an error. Fuse: the fusion's own, else the children's common one. Cuts: each part its own. None: the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from hubcli.composition import (
    Average,
    BatchSplit,
    Block,
    Expr,
    Fuse,
    Parallel,
    Split,
    Stack,
    blocks,
    fusions,
    leaves,
    text,
)
from hubcli.errors import UnsupportedError
from hubcli.evaluate import BATCH, SEQUENCE, cut_sizes
from hubcli.plan import Program
from hubcli.route import Route
from hubcli.sites import HeadSite, LiveSite

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]
HeadStep: TypeAlias = Callable[[HeadSite, Args, Kwargs], Any]
Labels: TypeAlias = tuple[str, ...]


@dataclass(slots=True, eq=False)
class Replace:
    """One adapter's module."""

    module: nn.Module

    def __call__(self, site: HeadSite, args: Args, kwargs: Kwargs) -> Any:
        """The head's output."""
        return self.module(*args, **kwargs)


@dataclass(slots=True, eq=False)
class Mean:
    """The weighted sum of several modules' outputs; the weights sum to one."""

    steps: list[HeadStep]
    weights: list[float]

    def __call__(self, site: HeadSite, args: Args, kwargs: Kwargs) -> Any:
        """The head's output."""
        total: Tensor | None = None
        for step, weight in zip(self.steps, self.weights, strict=True):
            part = _tensor(site, step(site, args, kwargs)) * weight
            total = part if total is None else total + part
        return total


@dataclass(slots=True, eq=False)
class CutHead:
    """A head for each part of the batch or the sequence; narrower outputs are padded with −inf."""

    block: Split | BatchSplit | Parallel
    steps: list[HeadStep | None]

    def __call__(self, site: HeadSite, args: Args, kwargs: Kwargs) -> Any:
        """The head's output."""
        axis = SEQUENCE if isinstance(self.block, Split) else BATCH
        given = None if isinstance(self.block, Parallel) else self.block.sizes
        x = _first(site, args, kwargs)
        if axis == SEQUENCE and x.dim() == 2:
            step = next(step for step, size in zip(self.steps, given or (), strict=True) if size)
            return site.own(*args, **kwargs) if step is None else step(site, args, kwargs)
        sizes = cut_sizes(self.block, given, len(self.steps), axis, x, x)
        return _joined(
            [_run(site, step, part) for step, part in zip(self.steps, torch.split(x, sizes, axis), strict=True)], axis
        )


@dataclass(slots=True, eq=False)
class RoutedHead:
    """A head for each group of rows."""

    route: Route
    steps: list[HeadStep | None]

    def __call__(self, site: HeadSite, args: Args, kwargs: Kwargs) -> Any:
        """The head's output."""
        x = _first(site, args, kwargs)
        self.route.check(x.shape[0])
        outs = [_run(site, step, part) for step, part in zip(self.steps, self.route.grouped(x), strict=True)]
        width = max(out.shape[-1] for out in outs)
        return self.route.joined([_padded(out, width) for out in outs])


def plan_head(
    expr: Expr, found: Mapping[str, nn.Module], labels: Mapping[str, Labels], chosen: str | None = None
) -> HeadStep | None:
    """What one replaced module does; `found` are the replacements by adapter name, `chosen` whose head answers under a Fuse.

    Raises:
        UnsupportedError: an Average over heads whose labels differ; a Fuse over different heads.
    """
    if expr is None or isinstance(expr, str):
        return Replace(found[expr]) if expr in found and expr is not None else None
    if isinstance(expr, Fuse) and (name := speaker(expr, found, chosen)) is not None:
        return Replace(found[name])
    steps = [plan_head(child, found, labels, chosen) for child in expr.children]
    if not any(steps):
        return None
    if isinstance(expr, Stack):
        return next(step for step in reversed(steps) if step)
    if isinstance(expr, Average):
        return _mean(expr, steps, labels)
    return CutHead(expr, steps) if isinstance(expr, Split | BatchSplit | Parallel) else _common(expr, steps, labels)


def plan_head_rows(
    route: Route, found: Mapping[str, nn.Module], labels: Mapping[str, Labels], chosen: str | None = None
) -> HeadStep | None:
    """What one replaced module does with one expression a row."""
    steps = [plan_head(expr, found, labels, chosen) for expr in route.exprs]
    return RoutedHead(route, steps) if any(steps) else None


def labels_of(expr: Expr, labels: Mapping[str, Labels], chosen: str | None = None) -> Labels | None:
    """The labels of the head that answers under this expression; None for the model's own. `labels` has heads' alone."""
    if expr is None or isinstance(expr, str):
        return labels.get(expr) if expr else None
    if isinstance(expr, Fuse) and (name := speaker(expr, labels, chosen)) is not None:
        return labels[name]
    of_children = [found for child in expr.children if (found := labels_of(child, labels, chosen)) is not None]
    if not of_children:
        return None
    return of_children[-1] if isinstance(expr, Stack) else of_children[0]


def speaker(expr: Fuse, having: Container[str], chosen: str | None) -> str | None:
    """Whose head answers under a Fuse: the chosen child's, else the fusion's own; None: what the children have in common."""
    if chosen in having and chosen in leaves(expr):
        return chosen
    return expr.by if expr.by in having else None


def _common(expr: Block, steps: Sequence[HeadStep | None], labels: Mapping[str, Labels]) -> HeadStep:
    """The one head of a Fuse's children, or the same head of several, to the bit."""
    having = [(step, child) for step, child in zip(steps, expr.children, strict=True) if step]
    first, child = having[0]
    for other, kid in having[1:]:
        if labels_of(child, labels) != labels_of(kid, labels) or not _same(first, other):
            raise UnsupportedError(
                f"{expr}: {text(child)} and {text(kid)} have different heads, and nothing says whose answers",
                hint="head= of load_adapter names one of them; or train the fusion with a head of its own",
            )
    return first


def _same(one: HeadStep, other: HeadStep) -> bool:
    if not isinstance(one, Replace) or not isinstance(other, Replace):
        return False
    mine, theirs = dict(one.module.named_parameters()), dict(other.module.named_parameters())
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def _mean(expr: Average, steps: Sequence[HeadStep | None], labels: Mapping[str, Labels]) -> HeadStep:
    having = [
        (step, w, labels_of(c, labels)) for step, w, c in zip(steps, expr.shares, expr.children, strict=True) if step
    ]
    if len({found for _, _, found in having}) > 1:
        shown = " and ".join(str(list(found or ())) for _, _, found in having)
        raise UnsupportedError(f"Average: heads with different labels can't be averaged: {shown}")
    total = sum(weight for _, weight, _ in having)
    if total == 0:
        raise UnsupportedError("Average: the weights of the children that have a head add up to 0")
    if len(having) == 1:
        return having[0][0]
    return Mean([step for step, _, _ in having], [weight / total for _, weight, _ in having])


def _first(site: HeadSite, args: Args, kwargs: Kwargs) -> Tensor:
    """The only input of a head that is cut; others would have to be cut with it."""
    given = [*args, *kwargs.values()]
    if len(given) != 1 or not isinstance(given[0], Tensor):
        raise UnsupportedError(f"{site.site.path}: a head with {len(given)} inputs can't be cut by rows or positions")
    return given[0]


def _run(site: HeadSite, step: HeadStep | None, x: Tensor) -> Tensor:
    return _tensor(site, site.own(x) if step is None else step(site, (x,), {}))


def _tensor(site: HeadSite, out: Any) -> Tensor:
    if not isinstance(out, Tensor):
        raise UnsupportedError(
            f"{site.site.path}: a head that returns a {type(out).__name__} can't be mixed with others"
        )
    return out


def _joined(parts: Sequence[Tensor], axis: int) -> Tensor:
    width = max(part.shape[-1] for part in parts)
    return torch.cat([_padded(part, width) for part in parts], axis)


def _padded(part: Tensor, width: int) -> Tensor:
    if part.shape[-1] == width:
        return part
    return torch.nn.functional.pad(part, (0, width - part.shape[-1]), value=float("-inf"))


def check_heads(program: Program, replaced: Mapping[str, Mapping[str, nn.Module]]) -> None:
    """Refuse an Average over adapters that replace several modules: averaging each of them is no average of logits.

    Raises:
        UnsupportedError: names the adapter and its modules.
    """
    for expr in program.exprs:
        for block in (block for block in blocks(expr) if isinstance(block, Average)):
            having = [name for name in (*leaves(block), *fusions(block)) if replaced.get(name)]
            several = next((name for name in having if len(replaced[name]) > 1), None)
            if several is not None and len(having) > 1:
                modules = ", ".join(replaced[several])
                raise UnsupportedError(
                    f"Average: '{several}' replaces several modules ({modules}), so logits can't be averaged"
                )


def check_nested(acting: Sequence[tuple[LiveSite, Any]]) -> None:
    """Refuse a delta or a replacement inside a module that is itself replaced: it would do nothing, in silence.

    Raises:
        UnsupportedError: names both modules.
    """
    for head, _ in acting:
        if not isinstance(head, HeadSite):
            continue
        for other, _ in acting:
            if other.site.path.startswith(f"{head.site.path}."):
                raise UnsupportedError(
                    f"{other.site.path} is adapted inside {head.site.path}, which another adapter replaces"
                )


def one_a_child(program: Program, out: Any, labels: Callable[[Expr], Labels]) -> Any:
    """The output of a forward under Parallel with `logits` as a list, one tensor a child, where a child has its own head."""
    children = branches(program.expr) if program.copies > 1 else ()
    logits = getattr(out, "logits", None)
    if not children or not isinstance(logits, Tensor):
        return out
    parts = logits.view(len(children), -1, *logits.shape[1:]).unbind()  # unlike chunk, for any batch of a traced model
    widths = [len(labels(branch)) for branch in children]
    cut = [part[..., :width] if 0 < width < part.shape[-1] else part for part, width in zip(parts, widths, strict=True)]
    out["logits"] = cut
    return out


def branches(expr: Expr) -> tuple[Expr, ...]:
    """What each child of the one Parallel amounts to, the Stacks around it included."""
    if isinstance(expr, Parallel):
        return expr.children
    if isinstance(expr, Stack):
        for i, child in enumerate(expr.children):
            inner = branches(child)
            if inner:
                return tuple(Stack(*expr.children[:i], branch, *expr.children[i + 1 :]) for branch in inner)
    return ()
