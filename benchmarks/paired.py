"""Contestants in one process: calls that are repeated until they can be timed, added costs, and intervals of paired ratios."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.measure import Row, call_cpu_ms, ratio, rounds_of

Times = Mapping[str, Sequence[float]]
TOLERANCE = 1e-4


class Timed:
    """A call to time: the warm-up round finds how often it has to be repeated for one measurement to take `ms`.

    `prepare` comes before each measurement and is not timed.
    """

    def __init__(self, call: Callable[[], object], ms: float = 30.0, prepare: Callable[[], object] = int):
        self.call, self.ms, self.prepare = call, ms, prepare
        self.times = 0

    def __call__(self) -> float:
        """CPU milliseconds of one call, the mean over a measurement."""
        self.prepare()
        if not self.times:
            self.call()
            self.times = max(1, round(self.ms / max(call_cpu_ms(self.call), 1e-6)))
        return call_cpu_ms(self.call, self.times)


def contest(
    calls: Mapping[str, Callable[[], object]], rounds: int, seed: int, ms: float = 30.0
) -> dict[str, list[float]]:
    """Times of each call, one a round. What lives already is kept from the garbage collector, which would charge it to anyone."""
    gc.collect()
    gc.freeze()
    try:
        return rounds_of({name: Timed(call, ms) for name, call in calls.items()}, rounds, seed)
    finally:
        gc.unfreeze()


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """An interval that holds the median with at least this probability, whatever the distribution: two of the ordered values.

    The k-th least value lies above the median with the probability that fewer than k of n fair coins fall heads. Fewer than
    six values have no such interval at 95 %: least and greatest are given.
    """
    ordered, n = sorted(values), len(values)
    k, tail = 0, 0.0
    while True:
        tail += math.comb(n, k) / 2**n
        if tail > (1 - level) / 2:
            break
        k += 1
    k = max(k, 1)
    return ordered[k - 1], ordered[n - k]


def added(
    what: str,
    times: Times,
    own: str,
    peer: str,
    *,
    against: str = "",
    bar: float | None = None,
    stretch: float | None = None,
) -> Row:
    """A row that compares what two contestants add to the base, round by round."""
    return added_by(what, times, own, "base", peer, "base", against=against, bar=bar, stretch=stretch)


def added_by(
    what: str,
    times: Times,
    own: str,
    base: str,
    peer: str,
    peer_base: str,
    *,
    against: str = "",
    bar: float | None = None,
    stretch: float | None = None,
) -> Row:
    """The same, each added to a base of its own."""
    ours = [one - bare for one, bare in zip(times[own], times[base], strict=True)]
    theirs = [one - bare for one, bare in zip(times[peer], times[peer_base], strict=True)]
    return _row(what, ours, theirs, against or peer, bar, stretch)


def total(
    what: str,
    times: Times,
    own: str,
    peer: str,
    *,
    against: str = "",
    close: bool = False,
    bar: float | None = None,
    stretch: float | None = None,
) -> Row:
    """A row that compares whole times, round by round; `close`: the 95 % interval of the ratio has to hold the bar."""
    return _row(what, times[own], times[peer], against or peer, bar, stretch, close=close)


def _row(
    what: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    against: str,
    bar: float | None,
    stretch: float | None,
    *,
    close: bool = False,
) -> Row:
    row = ratio(what, ours, against, theirs, bar)
    bounds = interval([one / other for one, other in zip(ours, theirs, strict=True)]) if close else None
    return replace(row, stretch=stretch, interval=bounds)


def same(what: str, ours: Any, theirs: Any, tolerance: float = TOLERANCE) -> None:
    """Refuse to time answers that differ.

    Raises:
        RuntimeError: by how much.
    """
    apart = float((ours - theirs).abs().max())
    if not apart <= tolerance:
        raise RuntimeError(f"{what}: outputs differ by {apart:g}, at most {tolerance:g} is allowed")
