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
        if lost:
            warnings.warn(_told(recipe, task, part, lost), HubcliWarning, stacklevel=3)
        cut[part] = len(lost)
    return cut


def _told(recipe: Recipe, task: Task, part: str, lost: Sequence[str]) -> str:
    size = task.tools.max_length
    most = "train.max_length" if size == recipe.train.max_length else "what this base reads"
    return f"{part}: {several(len(lost), 'row')} of more than {size} tokens, {most}, lose their end: {listed(lost)}"
