"""Is a stated figure what a sample of its rows allows? The question is put so that an honest publisher is refused 1 time in 1000.

A proportion of rows (accuracy, exact match) is judged by Wilson's interval of the sample, at 99.9 %. What is no proportion has
a bootstrap's 95 % interval, which is widened to the same level as if it were normal, and further for few rows, where a
bootstrap is too narrow. Both shrink as a sample becomes the whole that the figure is stated on (finite population), and allow for
what another machine may find on the very same rows. A figure without an interval is judged on the whole alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hubcli.frozen import frozen
from hubcli.publishing.findings import Finding

Z, Z95 = 3.2905267314918945, 1.959963984540054  # of the normal distribution: 99.9 % and 95 % lie within
MORE = 1.2  # wider than normal: the draws of a skewed figure have long tails
FEW = 30  # rows: with fewer a bootstrap says too little to refuse anyone
PROPORTIONS = ("accuracy", "exact_match")
BY_ROW = ("SEQ_CLS", "IMG_CLS", "CAUSAL_LM", "SEQ_2_SEQ_LM")  # tasks whose proportions are of rows
ENDLESS = ("loss", "perplexity")  # figures that are no share of anything
NOISE = 0.01  # what other hardware, batches and types of numbers may move a figure


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
        return self.interval[0] <= self.stated <= self.interval[1]

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


def judged(stated: float, figure: Mapping[str, Any], task: str, rows: int | None = None) -> Judged:
    """One stated value against what `hubcli eval` found of the same name on a sample.

    Args:
        rows: on how many it is stated, where that is known: a sample that is most of them leaves little to chance.
    """
    name, value, n = str(figure["name"]), float(figure["value"]), int(figure["n"])
    left = 1.0 if rows is None or rows < 2 else math.sqrt(max(0, rows - n) / (rows - 1))
    interval = _interval(name, value, n, figure.get("interval"), task)
    if interval is None and left > 0:
        return Judged(name, stated, value, n, None)
    low, high = interval or (value, value)
    noise = NOISE * (max(1.0, abs(value)) if name in ENDLESS else 1.0)
    low, high = value - (value - low) * left - noise, value + (high - value) * left + noise
    return Judged(name, stated, value, n, (low, high) if name in ENDLESS else (max(low, -1.0), min(high, 1.0)))


def _interval(name: str, value: float, n: int, drawn: Any, task: str) -> tuple[float, float] | None:
    """The sample's interval at 99.9 %, as if there were rows without end; None where it says too little."""
    if name in PROPORTIONS and task in BY_ROW:
        return wilson(value * n, n)
    if drawn is None or n < FEW:
        return None
    wide = Z / Z95 * (MORE + FEW / n)
    return value - (value - drawn[0]) * wide, value + (drawn[1] - value) * wide
