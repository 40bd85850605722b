"""One figure over several seeds: its mean, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hubcli.training.metrics import LEVEL, Interval, library, quiet, same_length


def paired(one: Sequence[float], other: Sequence[float]) -> tuple[float, Interval | None]:
    """The mean of one - other, seed by seed, with its paired 95 % t interval; None in its place for one seed.

    Raises:
        UsageError: no values, or not as many of one as of the other. MissingExtraError: scipy is not installed.
    """
    same_length(one, other, of="values")
    return over_seeds([mine - its for mine, its in zip(one, other, strict=True)])


def over_seeds(values: Sequence[float]) -> tuple[float, Interval | None]:
    """Mean and 95 % t interval of one value a seed; None in place of the interval for one seed.

    Raises:
        UsageError: no values. MissingExtraError: scipy is not installed.
    """
    same_length(values, values, of="values")
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    stats = library("scipy.stats")
    with quiet():
        half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values))
    return mean, (mean - half, mean + half)
