"""What is made of all rows before anything trains: a row that can't be used is told now, not hours later."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from hubcli.method import HubcliWarning
from hubcli.recipe import Recipe
from hubcli.training import metrics
from hubcli.training.examples import Example
from hubcli.training.findings import listed, several
from hubcli.training.tasks import Task


def ready(recipe: Recipe, task: Task, parts: Mapping[str, Sequence[Example]]) -> dict[str, int]:
    """Make the features of every part, which the task keeps. Part -> how many of its rows lost tokens; a warning says which.

    Raises:
        MissingExtraError: what counts figures is not installed. UsageError: E_DATA, a row that can't be used.
    """
    metrics.check_installed()
    cut = {}
    for part, rows in parts.items():
        lost = task.keep(rows)
        if part != "train":
            task.fits(rows)
        warn_of_cuts(task, part, lost, "train.max_length" if recipe.train.max_length == task.tools.max_length else None)
        cut[part] = len(lost)
    return cut


def warn_of_cuts(task: Task, part: str, lost: Sequence[str], asked: str | None) -> None:
    """Say which rows lose their end.

    Args:
        lost: where they stand. asked: what sets the length; None: what the base reads under what is active.
    """
    if lost:
        rows, size = several(len(lost), "row"), task.tools.max_length
        told = f"{part}: {rows} of more than {size} tokens, {asked or 'what this base reads'}, lose their end: "
        warnings.warn(told + listed(lost), HubcliWarning, stacklevel=4)
