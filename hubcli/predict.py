"""Predictions: texts in, labels and scores out, under whatever is active."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hubcli import answers
from hubcli.composition import BatchSplit, Expr, Split, contains
from hubcli.errors import ExpressionError, UnsupportedError
from hubcli.heads import branches
from hubcli.method import HubcliWarning
from hubcli.positions import Shift, places

if TYPE_CHECKING:
    from hubcli.adapted import Adapted
    from hubcli.families import Structure
    from hubcli.plan import Program


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer: the text, its label, and the probability of that label from 0 to 1."""

    text: str
    label: str
    score: float


def predict(handle: Adapted, texts: Sequence[str], batch_size: int) -> list[Any]:
    """Classify texts in order; Parallel gives all answers of the first child, then all of the second, and so on.

    Other tasks than text classification are left to transformers' pipeline, whose answers come back as they are. It writes the
    likeliest text, not a drawn one: the same question gets the same answer.

    Raises:
        UnsupportedError: no tokenizer, a bare model that predicts nothing, or a task that asks for more than texts.
        ExpressionError: rows or sizes that don't fit the number of texts.
    """
    task = _task(handle)
    if task == "feature-extraction":
        raise UnsupportedError(f"a {handle.structure.base_class} has no head that predicts", hint="load it for a task")
    if batch_size < 1:
        raise UnsupportedError(f"batch_size must be at least 1, found {batch_size}")
    if task != "text-classification":
        return _by_pipeline(handle, task, texts, batch_size)
    if handle.tokenizer is None:
        raise UnsupportedError("predict needs a tokenizer: adapt(model, tokenizer=…)")
    if not texts:
        return []
    program = handle.engine.routing.program(False)
    if program.rows is not None and len(program.rows) != len(texts):
        raise ExpressionError(f"rows= names {len(program.rows)} rows, found {len(texts)} texts")
    was_training = handle.model.training
    handle.model.eval()
    try:
        with torch.inference_mode():
            return _classify(handle, program, texts, batch_size)
    finally:
        handle.model.train(was_training)


def _task(handle: Adapted) -> str:
    """The task of the heads that adapters brought and that act now, else of the model's own."""
    program = handle.engine.routing.program(False)
    return answers.task_of(program, handle.engine.adapters) or handle.structure.task[0]


def _by_pipeline(handle: Adapted, task: str, texts: Sequence[str], batch_size: int) -> list[Any]:
    how = {"do_sample": False} if task == "text-generation" else {}
    try:
        return list(pipeline(handle, None, {"batch_size": batch_size})(list(texts), **how))
    except (KeyError, ValueError, ImportError) as error:
        cause = str(error).strip().partition("\n")[0]
        raise UnsupportedError(f"transformers' pipeline for '{task}' can't answer these texts", cause=cause) from error


def _classify(handle: Adapted, program: Program, texts: Sequence[str], batch_size: int) -> list[Prediction]:
    tokens = handle.tokenizer(list(texts), truncation=True, padding=False, max_length=longest(handle))
    _warn_of_cuts(tokens)
    encoded = tokens["input_ids"]
    children = branches(program.expr) if program.copies > 1 else (program.expr,)
    found: list[list[Prediction | None]] = [[None] * len(texts) for _ in children]
    size = batch_size if _pads(handle) else 1
    for picked in _batches(program.expr, [len(ids) for ids in encoded], size):
        batch = _batch(handle.tokenizer, [encoded[i] for i in picked])
        logits = _logits(handle, program, batch.to(handle.model.device), picked)
        for part, child, mine in zip(logits.chunk(len(children)), children, found, strict=True):
            exprs = [child] * len(picked) if program.rows is None else [program.rows[i] for i in picked]
            for row, i, expr in zip(part.float(), picked, exprs, strict=True):
                mine[i] = _answer(handle, texts[i], row, expr)
    return [answer for mine in found for answer in mine if answer is not None]


def _pads(handle: Adapted) -> bool:
    """Whether rows of different length can be one batch: there is a token to pad with, and the model, which answers at the
    last token that is none of those, knows it.
    """
    return handle.tokenizer.pad_token_id is not None and getattr(handle.model.config, "pad_token_id", None) is not None


def _batch(tokenizer: Any, rows: Sequence[Sequence[int]]) -> Any:
    """Rows of ids as tensors, padded where they are several."""
    if len(rows) > 1 and tokenizer.pad_token_id is None:
        hint = "set its pad_token, and the model's config.pad_token_id"
        raise UnsupportedError("the base's tokenizer has nothing to pad several texts with", hint=hint)
    return tokenizer.pad({"input_ids": [*rows]}, padding=len(rows) > 1, return_tensors="pt")


def _warn_of_cuts(tokens: Any) -> None:
    """Say which texts were longer than the model reads; a tokenizer without offsets does not tell."""
    cut = [number for number, encoding in enumerate(tokens.encodings or (), 1) if encoding.overflowing]
    if cut:
        some = ", ".join(map(str, cut[:5])) + (", …" if len(cut) > 5 else "")
        longest = max(map(len, tokens["input_ids"]))
        warnings.warn(f"cut to {longest} tokens, the most the model reads: text {some}", HubcliWarning, stacklevel=5)


def reads(structure: Structure, tokenizer: Any, shift: Shift | None = None) -> int | None:
    """How many tokens of a text a model has places for; None where nothing limits them.

    Args:
        tokenizer: whose `model_max_length` says where it is less. shift: what moves the tokens.
    """
    most = places(structure, shift)
    limit = getattr(tokenizer, "model_max_length", None) or most
    return None if most is None or limit is None else min(most, limit)


def room(handle: Adapted) -> int | None:
    """As `reads`, under what is active."""
    return reads(handle.structure, handle.tokenizer, handle.engine.routing.program(False).shift)


def longest(handle: Adapted) -> int | None:
    """How many tokens the model reads at most under what is active; None where nothing says so."""
    limit = room(handle) or getattr(handle.tokenizer, "model_max_length", None) or 0
    return limit if 0 < limit < 1 << 20 else None


def _batches(expr: Expr, lengths: list[int], size: int) -> Iterator[list[int]]:
    """Rows of like length together; a composition that cuts the batch gets it whole and in order."""
    if contains(expr, BatchSplit) or contains(expr, Split):
        yield list(range(len(lengths)))
        return
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    yield from (order[i : i + size] for i in range(0, len(order), size))


def _logits(handle: Adapted, program: Program, batch: Any, picked: list[int]) -> Tensor:
    with contextlib.nullcontext() if program.rows is None else handle.using(rows=[program.rows[i] for i in picked]):
        if not answers.heads_of(program, handle.engine.adapters):
            return handle.model(**batch).logits  # type: ignore[no-any-return]
        logits = handle(**batch).logits
        return torch.cat(answers.padded(logits, str(program))) if isinstance(logits, list) else logits


def _answer(handle: Adapted, text: str, logits: Tensor, expr: Expr) -> Prediction:
    """Softmax over the labels; a sigmoid each where the model says that labels don't exclude one another, or has one."""
    labels = handle.labels_of(expr)
    logits = logits[: len(labels)] if 0 < len(labels) < logits.shape[0] else logits
    multi = not answers.exclusive(expr, handle) or logits.shape[0] == 1
    scores = logits.sigmoid() if multi else logits.softmax(-1)
    best = int(scores.argmax())
    return Prediction(text, labels[best] if best < len(labels) else f"LABEL_{best}", float(scores[best]))


def pipeline(handle: Adapted, task: str | None, options: dict[str, Any]) -> Any:
    """A transformers pipeline over this model. Its view of the config carries the labels of what is active now.

    Raises:
        UnsupportedError: no task fits the model.
    """
    import transformers

    task = task or _task(handle)
    if not task:
        raise UnsupportedError(f"no task is known for a {handle.structure.base_class}", hint="name it: pipeline('…')")
    program = handle.engine.routing.program(False)
    labels = handle.labels_of(program.expr)
    view = _view(handle)
    config: Any = copy.deepcopy(handle.model.config)
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {name: i for i, name in enumerate(labels)}
    view.config = config
    return transformers.pipeline(task, model=view, **_batched(handle.tokenizer, options))


def _batched(tokenizer: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer and the options of a pipeline. Texts of different length are no batch where there is no token to pad with, as
    in GPT-2's and many a Llama's: a copy pads with the end of a text, which the attention mask hides, else they go one by one.
    """
    if tokenizer is None or tokenizer.pad_token_id is not None or options.get("batch_size", 1) == 1:
        return {"tokenizer": tokenizer, **options}
    if tokenizer.eos_token_id is None:
        return {"tokenizer": tokenizer, **options, "batch_size": 1}
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    return {"tokenizer": tokenizer, **options}


def _view(handle: Adapted) -> Any:
    """The model for a pipeline; it calls the handle where a head that an adapter brought has to answer."""
    view = copy.copy(handle.model)
    if answers.heads_of(handle.engine.routing.program(False), handle.engine.adapters):
        # The hooks run in the model itself, which the handle calls; here they would run a second time.
        hooks = [name for name in vars(view) if name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called"))]
        view.__dict__.update({name: OrderedDict() for name in hooks})
        view.__dict__["forward"] = handle.__call__
    return view
