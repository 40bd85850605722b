"""What the handle answers with where adapters brought heads: the model's forward, then those heads under the composition.

Stack: the last child that has a head. Average: logits, weights rescaled over those that have one. Cuts, rows: each part its
own. A child without a head answers with the model's own logits, if the model has a head of its own.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hubcli.added_heads import EVERY_TOKEN, TASKS, AddedHead, Seen, loss_of
from hubcli.composition import Average, BatchSplit, Block, Expr, Fuse, Parallel, Split, Stack, blocks, leaves
from hubcli.errors import UnsupportedError
from hubcli.evaluate import BATCH, SEQUENCE, cut_sizes
from hubcli.heads import branches, speaker
from hubcli.plan import Program
from hubcli.route import Route

if TYPE_CHECKING:
    from hubcli.adapted import Adapted
    from hubcli.adapter import Adapter
    from hubcli.families import Structure
    from hubcli.sites import Routing

# The heads by adapter name; None for an adapter that replaces modules of the model's own head.
Heads = Mapping[str, AddedHead | None]
TARGETS = ("labels", "start_positions", "end_positions")


class _Local(threading.local):
    """What the bare model inside a model with a head put out, for one thread, by routing."""

    def __init__(self) -> None:
        self.kept: dict[int, Any] = {}


LOCAL = _Local()


class Capture:
    """A hook on the bare model inside a model with a head of its own: keeps its output for the heads that adapters add."""

    def __init__(self, structure: Structure, routing: Routing):
        self.structure, self.routing = structure, routing
        self.undo: Callable[[], None] | None = None

    def attach(self) -> bool:
        """Put the hook on, where the model has a head and it is not there yet; whether it was added."""
        if not self.structure.prefix or self.undo is not None:
            return False
        self.undo = self.structure.modules[self.structure.prefix].register_forward_hook(self.keep).remove
        return True

    def detach(self) -> None:
        """Take it off."""
        if self.undo is not None:
            self.undo()
        self.undo = None

    @contextlib.contextmanager
    def lent(self, wanted: bool) -> Iterator[None]:
        """A hook for the length of one call, if it is wanted: a fused model has none of its own."""
        if not wanted or not self.structure.prefix:
            yield
            return
        hook = self.structure.modules[self.structure.prefix].register_forward_hook(self.keep)
        try:
            yield
        finally:
            hook.remove()

    def keep(self, module: nn.Module, args: Any, out: Any) -> None:
        """Keep the output, if a call of the handle waits for it."""
        del module, args
        if self.routing.key in LOCAL.kept:
            LOCAL.kept[self.routing.key] = out


def heads_of(program: Program, adapters: Mapping[str, Adapter]) -> Heads:
    """The heads that act under a program; empty where no adapter in it brought one."""
    used = [adapters[name] for name in program.names]
    found = {a.name: a.added for a in used if a.added is not None or a.heads}
    return found if any(head is not None for head in found.values()) else {}


def task_of(program: Program, adapters: Mapping[str, Adapter]) -> str | None:
    """The task of the added heads that act, as transformers' pipelines name it; None where none acts.

    Raises:
        UnsupportedError: they have several.
    """
    tasks = sorted({TASKS[head.kind] for head in heads_of(program, adapters).values() if head is not None})
    if len(tasks) > 1:
        raise UnsupportedError(f"{program} has heads for {' and for '.join(tasks)}: ask for one of them at a time")
    return tasks[0] if tasks else None


def exclusive(expr: Expr, handle: Adapted) -> bool:
    """Whether the labels that answer under an expression exclude one another."""
    heads = [a.added for name in leaves(expr) if (a := handle.engine.adapters[name]).twins()]
    head = heads[-1] if heads else None
    if head is not None:
        return head.exclusive
    return getattr(handle.structure.model.config, "problem_type", None) != "multi_label_classification"


def check(program: Program, adapters: Mapping[str, Adapter]) -> None:
    """Refuse what has no meaning: an Average over heads of other labels or kinds, a mix that does not say whose head answers.

    Raises:
        UnsupportedError: names the adapters.
    """
    heads = heads_of(program, adapters)
    for block in (block for expr in program.exprs if heads for block in blocks(spoken(expr, heads, program.head))):
        having = [name for name in leaves(block) if name in heads]
        kinds = {(head.kind, head.labels) if (head := heads[name]) is not None else None for name in having}
        if isinstance(block, Average) and len(kinds) > 1:
            shown = " and ".join(f"'{name}' {_shown(heads[name])}" for name in having)
            raise UnsupportedError(f"Average: heads of different kinds or labels can't be averaged: {shown}")
        if isinstance(block, Average) and having and not _weight(block, heads):
            raise UnsupportedError("Average: the weights of the children that have a head add up to 0")
        if not isinstance(block, Average | Stack | Split | BatchSplit | Parallel) and len(having) > 1:
            raise UnsupportedError(
                f"{block}: {' and '.join(having)} bring a head each, and nothing says whose answers",
                hint="head= of load_adapter names one of them",
            )


def _weight(block: Average, heads: Heads) -> float:
    return sum(weight for child, weight in zip(block.children, block.shares, strict=True) if _bears(child, heads))


def _shown(head: AddedHead | None) -> str:
    return "(in the model's own head)" if head is None else f"({head.kind}: {', '.join(head.labels[:8])})"


def run(handle: Adapted, heads: Heads, args: tuple[Any, ...], inputs: dict[str, Any]) -> Any:
    """The model's forward, its output with `logits` (`start_logits`, `end_logits` too where a span answers a question), and
    `loss` where targets are given. Under Parallel `logits` is a list, one a child, None for a child without a head.

    Raises:
        UnsupportedError: rows that no head answers for; targets for several heads; `return_dict=False`.
    """
    program = handle.engine.routing.program(False)
    targets = {name: inputs.pop(name) for name in TARGETS if inputs.get(name) is not None}
    if inputs.get("return_dict") is False:
        raise UnsupportedError("return_dict=False: a head that an adapter brought answers by name: out.logits")
    out, seen = _forward(handle, program, args, inputs)
    found: Any = logits_of(program, seen, heads)
    if targets:
        out["loss"] = _loss(program, heads, found, targets, inputs.get("attention_mask"))
    if isinstance(found, list):
        found = [_cut(part, handle.labels_of(kid)) for part, kid in zip(found, branches(program.expr), strict=True)]
    out["logits"] = found
    if isinstance(found, Tensor) and all(head and head.kind == "question_answering" for head in heads.values()):
        out["start_logits"], out["end_logits"] = found.unbind(-1)
    return out


def logits_of(program: Program, seen: Seen, heads: Heads) -> Tensor | list[Tensor | None]:
    """One tensor for the whole batch, narrower rows padded with −inf; under Parallel a list, one a child."""
    if program.copies > 1:
        kids = branches(program.expr)
        cut = seen.cut(lambda tensor: tensor.view(len(kids), -1, *tensor.shape[1:]).unbind())
        return [answer(spoken(kid, heads, program.head), part, heads) for kid, part in zip(kids, cut, strict=True)]
    if program.rows is None:
        return padded([answer(spoken(program.expr, heads, program.head), seen, heads)], str(program))[0]
    route = Route(program.rows, seen.hidden.device)
    route.check(seen.hidden.shape[0])
    exprs = [spoken(expr, heads, program.head) for expr in route.exprs]
    parts = [answer(expr, part, heads) for expr, part in zip(exprs, seen.cut(route.grouped), strict=True)]
    return route.joined(padded(parts, str(program)))


def spoken(expr: Expr, heads: Heads, chosen: str | None) -> Expr:
    """The expression with the adapter (or fusion) whose head answers in place of each Fuse, where that is settled."""
    if not isinstance(expr, Block):
        return expr
    if isinstance(expr, Fuse) and (name := speaker(expr, heads, chosen)) is not None:
        return name
    children = [spoken(child, heads, chosen) for child in expr.children]
    return expr.over(children)


def answer(expr: Expr, seen: Seen, heads: Heads) -> Tensor | None:
    """The logits of one expression over what it sees; None where neither an adapter nor the model has a head."""
    if not _bears(expr, heads):
        return seen.own
    if isinstance(expr, str):
        head = heads[expr]
        return seen.own if head is None else head.answer(seen)
    assert isinstance(expr, Block)
    if isinstance(expr, Average):
        return _mean(expr, seen, heads)
    if isinstance(expr, BatchSplit):
        sizes = cut_sizes(expr, expr.sizes, len(expr.children), BATCH, seen.hidden, seen.hidden)
        cut = seen.cut(lambda tensor: torch.split(tensor, sizes, BATCH))
        parts = [answer(child, part, heads) for child, part in zip(expr.children, cut, strict=True)]
        return torch.cat(padded(parts, str(expr)), BATCH)
    if isinstance(expr, Split):
        return _by_positions(expr, seen, heads)
    return answer([child for child in expr.children if _bears(child, heads)][-1], seen, heads)


def _bears(expr: Expr, heads: Heads) -> bool:
    return any(name in heads for name in leaves(expr))


def _mean(expr: Average, seen: Seen, heads: Heads) -> Tensor | None:
    if any(heads[name] is None for name in leaves(expr) if name in heads):
        return seen.own  # they replace modules of the model's own head, which averages them itself
    having = [(c, weight) for c, weight in zip(expr.children, expr.shares, strict=True) if _bears(c, heads)]
    total = sum(weight for _, weight in having)
    parts = padded([answer(child, seen, heads) for child, _ in having], str(expr))
    return torch.stack([part * (weight / total) for part, (_, weight) in zip(parts, having, strict=True)]).sum(0)


def _by_positions(expr: Split, seen: Seen, heads: Heads) -> Tensor:
    """A head of every token answers for its own positions; of the others, that of the child that holds the position read."""
    sizes = cut_sizes(expr, expr.sizes, len(expr.children), SEQUENCE, seen.hidden, seen.hidden)
    held = [(child, size) for child, size in zip(expr.children, sizes, strict=True) if size]
    parts = padded([answer(child, seen, heads) for child, _ in held], str(expr))
    first = next(head for name in leaves(expr) if (head := heads.get(name)) is not None)
    if first.kind in EVERY_TOKEN:
        spans = [size for _, size in held]
        return torch.cat([torch.split(part, spans, SEQUENCE)[i] for i, part in enumerate(parts)], SEQUENCE)
    ends = torch.tensor([size for _, size in held], device=seen.hidden.device).cumsum(0)
    child = torch.bucketize(first.places(seen), ends, right=True)
    return torch.stack(parts)[child, torch.arange(len(child), device=child.device)]


def padded(parts: Sequence[Tensor | None], where: str) -> list[Tensor]:
    """Logits of one shape but for the number of labels.

    Raises:
        UnsupportedError: a part that nothing answers for; answers a row beside answers a token.
    """
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        raise UnsupportedError(
            f"{where}: a part of the batch has no head: neither its adapter nor this model brings one",
            hint="adapted.model(**inputs) gives what the bare model puts out",
        )
    width = max(part.shape[-1] for part in found)
    if len({part.dim() for part in found}) > 1:
        raise UnsupportedError(f"{where}: a head of every token and one of the whole text don't fit into one tensor")
    return [
        F.pad(part, (0, width - part.shape[-1]), value=float("-inf")) if part.shape[-1] < width else part
        for part in found
    ]


def _forward(handle: Adapted, program: Program, args: tuple[Any, ...], inputs: dict[str, Any]) -> tuple[Any, Seen]:
    """(the model's output, what heads see of it)."""
    key = handle.engine.routing.key
    inside = bool(handle.structure.prefix)
    if inside:
        LOCAL.kept[key] = None
    try:
        with handle.engine.capture.lent(handle.engine.fused is not None):
            out = handle.model(*args, **inputs)
    finally:
        kept = LOCAL.kept.pop(key, None)
    bare = kept if inside else out
    ids = inputs.get("input_ids", args[0] if args and not args[0].is_floating_point() else None)
    if ids is not None and program.copies > 1:
        ids = ids.repeat(program.copies, 1)
    own = getattr(out, "logits", None) if inside else None
    return out, Seen(bare[0], getattr(bare, "pooler_output", None), ids, own)


def _loss(program: Program, heads: Heads, logits: Any, targets: dict[str, Tensor], mask: Tensor | None) -> Tensor:
    used = [heads[name] for name in program.names if name in heads]
    first = used[0]
    if not isinstance(logits, Tensor) or first is None or len({head and (head.kind, head.labels) for head in used}) > 1:
        raise UnsupportedError(
            f"{' and '.join(targets)}: {program} has heads of several kinds, so there is no one loss"
        )
    wanted = ("start_positions", "end_positions") if first.kind == "question_answering" else ("labels",)
    if set(targets) != set(wanted):
        raise UnsupportedError(
            f"a head of type {first.kind} learns from {' and '.join(wanted)}, found {', '.join(targets)}"
        )
    return loss_of(first, logits, targets, mask)


def _cut(part: Tensor | None, labels: tuple[str, ...]) -> Tensor | None:
    return part[..., : len(labels)] if part is not None and 0 < len(labels) < part.shape[-1] else part
