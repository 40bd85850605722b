"""What F1 and Matthews' correlation need of rows that have a class and are said to be of one: counts, no table of all pairs."""

from __future__ import annotations

from typing import Any

import numpy as np

Numbers = np.ndarray[Any, Any]


def counted(told: Numbers, said: Numbers, k: int) -> Numbers:
    """Of each class how many rows are it, are said to be it, and both (..., 3, k), of rows (..., n)."""
    groups = (told, said, np.where(told == said, told, k))
    return np.stack([_sizes(group, k + 1)[..., :k] for group in groups], axis=-2)


def summed(each: Numbers, rows: Numbers) -> Numbers:
    """The counts (..., 3, k) of draws of rows (..., n), of each row's own (m, 3, k)."""
    drawn = _sizes(rows, len(each))
    return (drawn @ each.reshape(len(each), -1)).reshape(*drawn.shape[:-1], *each.shape[1:])


def accuracy(counts: Numbers) -> Numbers:
    """The share that is right."""
    found: Numbers = counts[..., 2, :].sum(-1) / np.maximum(1, counts[..., 0, :].sum(-1))
    return found


def _sizes(classes: Numbers, k: int) -> Numbers:
    """How many of (..., n) are of each class (..., k)."""
    flat = classes.reshape(-1, classes.shape[-1])
    offset = np.arange(len(flat))[:, None] * k
    counted = np.bincount((flat + offset).ravel(), minlength=len(flat) * k)
    return counted.reshape(*classes.shape[:-1], k).astype(np.float64)


def _f1s(counts: Numbers) -> Numbers:
    """F1 of each class (..., k); none (nan) for one that occurs nowhere."""
    with np.errstate(invalid="ignore"):
        found: Numbers = 2 * counts[..., 2, :] / (counts[..., 0, :] + counts[..., 1, :])
    return found


def second_f1(counts: Numbers) -> Numbers:
    """F1 of the second class alone; 0 where it occurs nowhere."""
    return np.nan_to_num(_f1s(counts)[..., 1])


def macro_f1(counts: Numbers) -> Numbers:
    """The plain mean of F1 over the classes that occur."""
    found: Numbers = np.nanmean(_f1s(counts), axis=-1)
    return found


def mcc(counts: Numbers) -> Numbers:
    """Gorodkin's R_K, which for two classes is Matthews' correlation; 0 where one side has one class alone."""
    told, said, right = (counts[..., part, :] for part in range(3))
    n = told.sum(-1)
    above = right.sum(-1) * n - (told * said).sum(-1)
    below = np.sqrt((n**2 - (said**2).sum(-1)) * (n**2 - (told**2).sum(-1)))
    found: Numbers = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return found
