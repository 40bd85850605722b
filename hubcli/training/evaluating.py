"""Figures of what is already trained: a handle, an expression, rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from hubcli import answers
from hubcli.adapted import Adapted
from hubcli.base_copies import place_of
from hubcli.composition import BatchSplit, Expr, Split, contains, text
from hubcli.errors import BaseNotFoundError, UnsupportedError
from hubcli.heads import branches
from hubcli.manifest import BaseModel
from hubcli.predict import longest, room
from hubcli.pretrained import pretrained
from hubcli.recipe import LABELLED
from hubcli.training.examples import Example
from hubcli.training.metrics import Figure
from hubcli.training.ready import warn_of_cuts
from hubcli.training.tasks import TASKS, Tools
from hubcli.training.tasks.base import Tick

MOST = 512  # tokens a row may have, where nobody says otherwise and the model reads more


def asked(expr: Expr) -> tuple[Expr, ...]:
    """What an expression gives answers of: itself, or each child of its Parallel.

    Raises:
        UnsupportedError: it cuts batches or texts at fixed places, which rows of a data set don't have.
    """
    for kind in (Split, BatchSplit):
        if contains(expr, kind):
            raise UnsupportedError(
                f"{text(expr)}: {kind.__name__} cuts at fixed sizes, and rows of a data set have none",
                hint="evaluate its children one by one",
            )
    return branches(expr) or (expr,)


def task_of(handle: Adapted, stated: Sequence[str]) -> str:
    """The task, as recipes name it, of what is active: of the heads that it brings beside the model's own modules, else as the
    adapters state it (as pipelines name it), else the model's.

    Raises:
        UnsupportedError: one that has no figures, or several.
    """
    brought = answers.task_of(handle.engine.routing.program(False), handle.engine.adapters)
    found = {brought} if brought else set(stated) or {handle.structure.task[0]}
    names = [name for name, task in TASKS.items() if task.pipeline in found]
    if len(found) > 1 or not names:
        raise UnsupportedError(
            f"expected an adapter of one of the tasks {', '.join(TASKS)}, found {' and '.join(sorted(found))}",
            hint="task= (--task) says what an adapter is for that does not say so itself",
        )
    return names[0]


def labels_of(handle: Adapted, expr: Expr, task: str) -> tuple[str, ...]:
    """The labels that answer under an expression; none where the task has none.

    Raises:
        UnsupportedError: no two labels, or labels that don't exclude one another.
    """
    if task not in LABELLED:
        return ()
    labels = handle.labels_of(expr)
    if len(labels) < 2:
        raise UnsupportedError(f"{text(expr)}: expected at least two labels, found {', '.join(labels) or 'none'}")
    if not answers.exclusive(expr, handle):
        raise UnsupportedError(f"{text(expr)}: its labels don't exclude one another: a row would have to name several")
    return labels


def length(handle: Adapted, wanted: int | None) -> int:
    """How many tokens of a row are read: as many as somebody says, `MOST` at most where nobody does, no more than the model
    has places for.
    """
    if wanted is None:
        return min(longest(handle) or MOST, MOST)
    most = room(handle)
    return wanted if most is None else min(wanted, most)


def image_processor(base: BaseModel, *, offline: bool | str, token: str | None) -> Any:
    """What makes pixels of images for a base; None where it has none."""
    try:
        base, where = place_of(base, offline=offline, token=token)
        options = {"local_files_only": bool(offline), "token": token, "revision": base.revision}
        return pretrained("AutoImageProcessor", where, options)
    except BaseNotFoundError:
        return None


def judged(
    handle: Adapted,
    expr: Expr,
    task: str,
    examples: Sequence[Example],
    options: Mapping[str, Any],
    *,
    batch_size: int,
    part: str = "test",
    seed: int = 0,
    tick: Tick | None = None,
) -> list[Figure]:
    """The figures of an expression over rows, the one that speaks for the task first. The model's mode stays what it was.

    Args:
        options: of `Tools`: labels, processor, max_length, max_answer, compares. part: what the rows are called in a warning of
            those that are cut.

    Raises:
        UsageError: E_DATA, a row that can't be measured.
        UnsupportedError: what the task needs and the base does not have. HubcliError: as the task's own.
    """
    was_training = handle.model.training
    handle.model.eval()
    try:
        with torch.no_grad(), handle.using(expr):  # which tokenizer reads goes by what is in use
            tools = Tools(config=handle.model.config, tokenizer=handle.tokenizer, room=room(handle), **options)
            made = TASKS[task](tools)
            warn_of_cuts(made, part, made.keep(examples), None if tools.max_length == tools.room else "max_length")
            made.fits(examples)
            found = made.answers(handle, examples, batch_size, tick)
    finally:
        handle.model.train(was_training)
    return made.figures(examples, found, seed)
