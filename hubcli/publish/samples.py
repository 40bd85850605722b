"""Is a stated figure what a sample of its rows allows? The question is put so that an honest publisher is refused 1 time in 1000.

A proportion of rows (accuracy, exact match) is judged by Wilson's interval of the sample, at 99.9 %. What is no proportion has
a bootstrap's 95 % interval, which is widened to the same level as if it were normal, and further for few rows, where a
bootstrap is too narrow. A figure without an interval is not judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hubcli.frozen import frozen
from hubcli.publish.findings import Finding

Z, Z95 = 3.2905267314918945, 1.959963984540054  # of the normal distribution: 99.9 % and 95 % lie within
FEW = 30  # rows: with fewer a bootstrap says too little to refuse anyone
PROPORTIONS = ("accuracy", "exact_match")
BY_ROW = ("SEQ_CLS", "IMG_CLS", "CAUSAL_LM", "SEQ_2_SEQ_LM")  # tasks whose proportions are of rows
SLACK = 1e-6


@frozen
class Judged:
    """A stated figure against a sample: what the sample has, on `n` rows, and from where to where it allows; None: not judged."""

    name: str
    stated: float
    found: float
    n: int
    interval: tuple[float, float] | None

    @property
    def holds(self) -> bool:
        """Whether the sample allows what is stated; also where it can't tell."""
        if self.interval is None:
            return True
        return self.interval[0] - SLACK <= self.stated <= self.interval[1] + SLACK

    def __str__(self) -> str:
        said = f"{self.name} {self.stated:.4f} is stated, {self.n} rows have {self.found:.4f}"
        if self.interval is None:
            return f"{said}; they say too little to judge it"
        return f"{said}, which allows {self.interval[0]:.4f} to {self.interval[1]:.4f} (99.9 %)"

    def finding(self) -> Finding:
        """What stands against publishing it."""
        assert self.interval is not None
        allowed = f"{self.interval[0]:.4f} to {self.interval[1]:.4f}, which {self.n} rows with {self.found:.4f} allow (99.9 %)"
        hint = "measure again ('hubcli eval'), and publish what was measured"
        return Finding("metrics", self.name, allowed, f"{self.stated:.4f} as stated", hint, "E_METRIC")


def wilson(hits: float, n: int, z: float = Z) -> tuple[float, float]:
    """Wilson's interval of a proportion."""
    p = hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def judged(stated: float, figure: Mapping[str, Any], task: str) -> Judged:
    """One stated value against what `hubcli eval` found of the same name on a sample."""
    name, value, n = str(figure["name"]), float(figure["value"]), int(figure["n"])
    if name in PROPORTIONS and task in BY_ROW:
        return Judged(name, stated, value, n, wilson(value * n, n))
    interval = figure.get("interval")
    if interval is None or n < FEW:
        return Judged(name, stated, value, n, None)
    wide = Z / Z95 * (1 + FEW / n)
    low, high = (value - (value - interval[0]) * wide, value + (interval[1] - value) * wide)
    return Judged(name, stated, value, n, (low, high))
