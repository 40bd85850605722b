"""The head of a merged adapter: whose, or the average of several; never one lost in silence.

A composition's Average of heads is that of their logits. One linear map's weights averaged give just that; of a head of several
maps they don't, and it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hubcli import heads as head_rules
from hubcli.adapter import Adapter
from hubcli.added_heads import AddedHead
from hubcli.composition import Average, Block, Expr, leaves
from hubcli.errors import UnsupportedError, UsageError
from hubcli.plan import Program

# modules whose output is linear in their parameters, whatever they get
LINEAR = (nn.Linear, nn.Embedding, nn.LayerNorm)
CHOOSE = "head= (--head) chooses one of them"
Tensors = dict[str, Tensor]
Shares = list[tuple[str, float]]


@dataclass(slots=True)
class MergedHeads:
    """`replaced`: module path -> parameter -> tensor; `added`: (config, parameter -> tensor) of a head beside the model's.

    `how` is one of none, kept, chosen, averaged; `of` names whose they are, `left_out` whose heads are not in them.
    """

    how: str = "none"
    of: tuple[str, ...] = ()
    replaced: dict[str, Tensors] = field(default_factory=dict)
    added: tuple[dict[str, Any], Tensors] | None = None
    labels: tuple[str, ...] | None = None
    left_out: tuple[str, ...] = ()


def merged_heads(expr: Expr, adapters: Mapping[str, Adapter], chosen: str | None) -> MergedHeads:
    """The head that the one adapter has in place of what answers under the composition.

    Raises:
        UsageError: `chosen` is not in the expression, or has no head.
        UnsupportedError: an average of heads that is no head's; the hint says how to choose.
    """
    having = {name: adapters[name] for name in leaves(expr) if adapters[name].twins()}
    if chosen is not None:
        return _chosen(expr, having, chosen)
    made = MergedHeads()
    speakers: dict[str, None] = {}
    for path in dict.fromkeys(path for adapter in having.values() for path in adapter.heads):
        found = {name: adapter.heads[path] for name, adapter in having.items() if path in adapter.heads}
        shares = speaking(expr, found)
        made.replaced[path], mixed = _mean(path, [(found[name], w) for name, w in shares])
        speakers |= dict.fromkeys(name for name, _ in shares)
        _check_labels(having, shares)
        if mixed:
            made.how = "averaged"
            head_rules.check_heads(Program(expr), {name: adapter.heads for name, adapter in having.items()})
    _add(made, expr, having, speakers)
    made.of = tuple(speakers)
    if speakers:
        made.how = "averaged" if made.how == "averaged" else "kept"
        made.labels = adapters[made.of[-1]].labels
    made.left_out = tuple(name for name in having if name not in speakers)
    return made


def _chosen(expr: Expr, having: Mapping[str, Adapter], chosen: str) -> MergedHeads:
    if chosen not in having:
        known = ", ".join(having) or "none"
        what = "has no head" if chosen in leaves(expr) else "is not in the composition"
        raise UsageError(f"head: '{chosen}' {what}", hint=f"with a head: {known}")
    one = having[chosen]
    made = MergedHeads("chosen", (chosen,), labels=one.labels, left_out=tuple(n for n in having if n != chosen))
    made.replaced = {path: _tensors(twin) for path, twin in one.heads.items()}
    made.added = None if one.added is None else (dict(one.added.config), _tensors(one.added))
    return made


def speaking(expr: Expr, having: Mapping[str, Any]) -> Shares:
    """Who of those that have a head answers, and with what weight: the last of a Stack, all of an Average; weights add up to 1.

    Raises:
        UnsupportedError: the weights of an Average's children that have one add up to 0.
    """
    if not isinstance(expr, Block):
        return [(expr, 1.0)] if expr in having and expr is not None else []
    found = [speaking(child, having) for child in expr.children]
    if not isinstance(expr, Average):
        return next((shares for shares in reversed(found) if shares), [])
    parts = [(shares, weight) for shares, weight in zip(found, expr.shares, strict=True) if shares]
    sum_of = sum(weight for _, weight in parts)
    if parts and sum_of == 0:
        raise UnsupportedError("Average: the weights of the children that have a head add up to 0", hint=CHOOSE)
    totals: dict[str, float] = {}
    for shares, weight in parts:
        for name, share in shares:
            totals[name] = totals.get(name, 0.0) + share * weight / sum_of
    return [(name, weight) for name, weight in totals.items() if weight]


def _mean(path: str, parts: Sequence[tuple[nn.Module, float]]) -> tuple[Tensors, bool]:
    """(the parameters of the weighted average, whether several really differ).

    Raises:
        UnsupportedError: the module's output is not linear in its parameters, or shapes differ.
    """
    given = [_tensors(module) for module, _ in parts]
    first = given[0]
    if all(one.keys() == first.keys() and all(torch.equal(one[k], first[k]) for k in first) for one in given):
        return first, False
    inner = [m for m in parts[0][0].modules() if next(m.parameters(recurse=False), None) is not None]
    if len(inner) != 1 or not isinstance(inner[0], LINEAR):
        kinds = " and ".join(type(m).__name__ for m in inner)
        raise UnsupportedError(
            f"{path}: the average of heads made of {kinds} is no head of that kind: averaged weights don't give averaged logits",
            hint=CHOOSE,
        )
    shapes = [{name: tuple(t.shape) for name, t in one.items()} for one in given]
    if any(shape != shapes[0] for shape in shapes):
        raise UnsupportedError(
            f"{path}: heads of different shapes can't be averaged: {shapes[0]}, {shapes[1]}", hint=CHOOSE
        )
    made = {}
    for name, tensor in first.items():
        parts64 = [one[name].double() * weight for one, (_, weight) in zip(given, parts, strict=True)]
        made[name] = torch.stack(parts64).sum(0).to(tensor.dtype)
    return made, True


def _add(made: MergedHeads, expr: Expr, having: Mapping[str, Adapter], speakers: dict[str, None]) -> None:
    """The head beside the model's modules, where an adapter brought one; it, or a replaced module, answers."""
    heads = {name: adapter.added for name, adapter in having.items() if adapter.added is not None}
    if not heads:
        return
    shares = speaking(expr, having)
    found: dict[str, AddedHead] = {name: heads[name] for name, _ in shares if name in heads}
    if not found:
        return
    if len(found) < len(shares):
        raise UnsupportedError(
            f"Average: {', '.join(found)} brings a head of its own, the others replace the model's: they can't be averaged",
            hint=CHOOSE,
        )
    first = found[shares[0][0]]
    if len(shares) > 1:
        _check_kinds(found)
    tensors, mixed = _mean("head", [(found[name], weight) for name, weight in shares])
    made.added = dict(first.config), tensors
    made.how = "averaged" if mixed else made.how
    speakers |= dict.fromkeys(found)


def _check_kinds(found: Mapping[str, AddedHead]) -> None:
    kinds = {
        name: (head.labels, {k: v for k, v in head.config.items() if k != "label2id"}) for name, head in found.items()
    }
    (one, first), *others = kinds.items()
    for name, kind in others:
        if kind != first:
            raise UnsupportedError(
                f"Average: the heads of '{one}' and '{name}' are of other kinds or labels", hint=CHOOSE
            )


def _check_labels(having: Mapping[str, Adapter], shares: Shares) -> None:
    known = {name: having[name].labels or () for name, _ in shares}
    if len(set(known.values())) > 1:
        shown = " and ".join(f"'{name}' {list(labels)}" for name, labels in known.items())
        raise UnsupportedError(f"Average: heads with different labels can't be averaged: {shown}", hint=CHOOSE)


def _tensors(module: nn.Module) -> Tensors:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
