"""A stated figure against a sample: an honest one passes, a false one does not. The oracle counts every way to draw a sample."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hubcli.publishing.samples import Z, judged, wilson


def refused(stated: float, true: float, rows: int | None, n: int) -> float:
    """The chance that a sample of `n` refuses what is stated of `rows` rows, of which a share `true` is right."""
    whole = rows or 10**6
    hits = np.arange(n + 1)
    chance = stats.hypergeom(whole, round(true * whole), n).pmf(hits)
    said = [not judged(stated, {"name": "accuracy", "value": hit / n, "n": n}, "SEQ_CLS", rows).holds for hit in hits]
    return float(chance[said].sum())


@pytest.mark.parametrize("n", [10, 50, 200, 1000])
@pytest.mark.parametrize("true", [0.0, 0.02, 0.5, 0.85, 0.95, 0.99, 1.0])
@pytest.mark.parametrize("rows", [None, 1000, 1100, 5000])
def test_who_is_honest_is_refused_one_time_in_a_hundred_at_most(rows: int | None, true: float, n: int) -> None:
    assert refused(true, true, rows, n) <= 0.01


@pytest.mark.parametrize(
    ("stated", "true", "rows", "caught"),
    [(0.95, 0.85, None, 0.9), (0.95, 0.85, 2000, 0.9), (0.99, 0.9, 2000, 0.95), (0.93, 0.85, 220, 0.99), (0.6, 0.9, None, 0.999)],
)  # fmt: skip
def test_a_false_claim_is_caught_by_200_rows(stated: float, true: float, rows: int | None, caught: float) -> None:
    assert refused(stated, true, rows, 200) >= caught


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 7), (170, 200), (200, 200)])
def test_wilson_is_scipys(hits: int, n: int) -> None:
    found = stats.binomtest(hits, n).proportion_ci(2 * stats.norm.cdf(Z) - 1, method="wilson")
    assert wilson(hits, n) == pytest.approx((found.low, found.high), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "task", "interval", "n", "rows", "stated", "holds"),
    [
        ("f1", "SEQ_CLS", (0.80, 0.90), 200, None, 0.93, True),
        ("f1", "SEQ_CLS", (0.80, 0.90), 200, None, 0.99, False),
        ("accuracy", "TOKEN_CLS", (0.84, 0.86), 200, None, 0.95, False),  # of tokens: no proportion of rows
        ("f1", "SEQ_CLS", None, 200, 2000, 0.1, True),  # nothing to judge by
        ("f1", "SEQ_CLS", (0.80, 0.90), 20, None, 0.1, True),  # too few rows
        ("loss", "SEQ_CLS", None, 200, 200, 0.851, True),  # the whole, asked again
        ("loss", "SEQ_CLS", None, 200, 200, 0.5, False),
        ("perplexity", "CAUSAL_LM", (18.0, 22.0), 200, None, 30.0, False),
    ],
)
def test_what_is_no_proportion(
    name: str, task: str, interval: tuple[float, float] | None, n: int, rows: int | None, stated: float, holds: bool
) -> None:
    figure = {"name": name, "value": 20.0 if name == "perplexity" else 0.85, "n": n, "interval": interval}
    assert judged(stated, figure, task, rows).holds is holds
