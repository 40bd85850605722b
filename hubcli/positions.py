"""Positions: an adapter may expect the tokens some places further up (peft's prefixes count as tokens before them).

The shift moves the trunk, so it is one number a row: each row its own in rows and cuts of the batch, summed in a stack; where
children share a row's trunk (Average, Fuse, Split) they must agree.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hubcli.composition import BatchSplit, Expr, Parallel, Stack, text
from hubcli.errors import UnsupportedError
from hubcli.families import Structure


@dataclass(slots=True, eq=False)
class Shift:
    """Adds a program's shifts to `position_ids` on the way into the model. `padded` makes positions as RoBERTa does.

    `inside` is the module that gets the positions of an encoder-decoder's decoder, which makes them itself. `even` is the shift
    of every row where there is one: a traced model then takes batches of any size.
    """

    expr: Expr
    rows: tuple[Expr, ...] | None
    shifts: Mapping[str, int]
    padded: nn.Module | None
    inside: nn.Module | None = None
    even: int | None = None

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The inputs with shifted positions."""
        if self.inside is not None:
            return args, kwargs
        if len(args) > 1:
            raise UnsupportedError("positions move under this adapter: give all inputs but the first by their names")
        given = args[0] if args else kwargs.get("input_ids")
        given = kwargs.get("inputs_embeds") if given is None else given
        if given is None:
            raise UnsupportedError(
                "positions move under this adapter: expected input_ids or inputs_embeds, found neither"
            )
        if self.even is None:
            moved = torch.tensor(self._amounts(given.shape[0]), device=given.device).unsqueeze(1)
        else:
            moved = torch.full((given.shape[0], 1), self.even, device=given.device)
        return args, {**kwargs, "position_ids": self._positions(given, kwargs, moved)}

    def within(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Tensor:
        """What `inside` puts out for moved positions; it gets the ids or their shape first and `position_ids` by name."""
        amounts = self._amounts(args[0].shape[0] if isinstance(args[0], Tensor) else args[0][0])
        ids = kwargs["position_ids"]
        made = {n: module.forward(*args, **{**kwargs, "position_ids": ids + n}) for n in dict.fromkeys(amounts) if n}
        made[0] = out
        if len(set(amounts)) == 1:
            return made[amounts[0]]  # type: ignore[no-any-return]
        each = [made[n].reshape(-1, *out.shape[-2:]) for n in amounts]
        return torch.stack([rows[i if len(rows) == len(each) else 0] for i, rows in enumerate(each)])

    def most(self) -> int:
        """By how much the row moves that moves furthest."""
        return max(_furthest(expr, self.shifts) for expr in ((self.expr,) if self.rows is None else self.rows))

    def _amounts(self, count: int) -> list[int]:
        """By how much each of `count` rows moves; one number where all move alike."""
        if self.even is not None:
            return [self.even]
        if self.rows is None:
            return of_rows(self.expr, self.shifts, count)
        return [of_rows(expr, self.shifts, 1)[0] for expr in self.rows]

    def _positions(self, given: Tensor, kwargs: Mapping[str, Any], moved: Tensor) -> Tensor:
        ids = kwargs.get("position_ids")
        if ids is not None:
            return ids + moved  # type: ignore[no-any-return]
        past = kwargs.get("past_key_values")
        before = 0 if past is None else past.get_seq_length()
        if self.padded is not None and given.dim() == 2:
            padding: Any = self.padded.padding_idx
            own = self.padded.create_position_ids_from_input_ids(given, padding, before)  # type: ignore[operator]
            return own + moved * (given != padding)  # type: ignore[no-any-return]
        return torch.arange(before, before + given.shape[1], device=given.device).unsqueeze(0) + moved


def shift_of(expr: Expr, rows: Sequence[Expr] | None, shifts: Mapping[str, int], structure: Structure) -> Shift | None:
    """The shift of an expression, or of one a row; None where nothing moves.

    Raises:
        UnsupportedError: children of one trunk that disagree, or a model whose positions can't be given.
    """
    if not any(shifts.values()):
        return None
    agreed = {_agreed(one, shifts) for one in ((expr,) if rows is None else rows)}
    even = next(iter(agreed)) if len(agreed) == 1 else None
    inside = decoder_positions(structure)
    if inside is None and not _takes_positions(structure.model):
        raise UnsupportedError(f"the adapter moves positions, which a {structure.base_class} doesn't take as an input")
    padded = next((m for m in structure.modules.values() if hasattr(m, "create_position_ids_from_input_ids")), None)
    return Shift(
        expr, None if rows is None else tuple(rows), shifts, padded, inside, even if isinstance(even, int) else None
    )


def decoder_positions(structure: Structure) -> nn.Module | None:
    """The module that embeds the positions of an encoder-decoder's decoder, where the decoder hands it their ids."""
    if not getattr(getattr(structure.model, "config", None), "is_encoder_decoder", False):
        return None
    found = (module for path, module in structure.modules.items() if f".{path}".endswith(".decoder.embed_positions"))
    return next((module for module in found if _takes_positions(module)), None)


def _takes_positions(module: nn.Module) -> bool:
    return "position_ids" in inspect.signature(type(module).forward).parameters


def places(structure: Structure, shift: Shift | None) -> int | None:
    """How many tokens of a text a model has positions for, where a program moves them; None where nothing limits them.

    The first positions of a model that counts as RoBERTa does are taken by its padding.
    """
    stated = getattr(getattr(structure.model, "config", None), "max_position_embeddings", None) or 0
    most = stated if stated > 0 else None
    for path, module in structure.modules.items():
        if path.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            own = module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
            most = own if most is None else min(most, own)
    return most if most is None or shift is None else max(1, most - shift.most())


def _furthest(expr: Expr, shifts: Mapping[str, int]) -> int:
    if expr is None or isinstance(expr, str):
        return shifts.get(expr, 0) if expr else 0
    found = [_furthest(child, shifts) for child in expr.children]
    return sum(found) if isinstance(expr, Stack) else max(found)


def of_rows(expr: Expr, shifts: Mapping[str, int], count: int) -> list[int]:
    """The shift of each of `count` rows."""
    if expr is None or isinstance(expr, str):
        return [shifts.get(expr, 0) if expr else 0] * count
    if isinstance(expr, Stack):
        return [sum(row) for row in zip(*(of_rows(child, shifts, count) for child in expr.children), strict=True)]
    if isinstance(expr, BatchSplit | Parallel):
        sizes = expr.sizes if isinstance(expr, BatchSplit) else (count // len(expr.children),) * len(expr.children)
        return [n for child, size in zip(expr.children, sizes, strict=True) for n in of_rows(child, shifts, size)]
    return of_rows(expr.children[0], shifts, count)


def _agreed(expr: Expr, shifts: Mapping[str, int]) -> object:
    """What a child's shift is, in a form that can be compared; raises where children of one trunk differ."""
    if expr is None or isinstance(expr, str):
        return shifts.get(expr, 0) if expr else 0
    found = [_agreed(child, shifts) for child in expr.children]
    if isinstance(expr, Stack):
        whole = [one for one in found if isinstance(one, int)]
        return sum(whole) if len(whole) == len(found) else tuple(found)
    if isinstance(expr, BatchSplit | Parallel):
        return (getattr(expr, "sizes", None), tuple(found)) if len(set(found)) > 1 else found[0]
    for child, one in zip(expr.children, found, strict=True):
        if one != found[0]:
            kind = type(expr).__name__
            raise UnsupportedError(
                f"{kind}: positions move by {found[0]} under {text(expr.children[0])} and by {one} under {text(child)}; "
                f"in {kind} they must move alike"
            )
    return found[0]
