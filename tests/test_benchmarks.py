"""The benchmarks' arithmetic, and the page against the results it is written from."""

from __future__ import annotations

import statistics
import sys

import pytest

from benchmarks import page
from benchmarks.measure import Process, Row, Spread, environment, ratio, read, rounds_of


def test_every_round_has_every_contestant_once_and_the_first_does_not_count() -> None:
    ran: list[str] = []
    contestants = {name: lambda name=name: ran.append(name) or float(len(ran)) for name in "abc"}
    times = rounds_of(contestants, 7, seed=1)
    rounds = ["".join(ran[at : at + 3]) for at in range(0, len(ran), 3)]
    assert len(rounds) == 8 and {"".join(sorted(one)) for one in rounds} == {"abc"} and len(set(rounds)) > 1
    assert all(len(values) == 7 and min(values) > 3 for values in times.values())


def test_a_ratio_is_taken_round_by_round() -> None:
    own, peer = [1.0, 2.0, 9.0], [2.0, 8.0, 3.0]
    expected = [a / b for a, b in zip(own, peer, strict=True)]
    row = ratio("own", own, "peer", peer, bar=0.4)
    assert row.value == Spread(min(expected), statistics.median(expected), max(expected))
    assert (row.own, row.peer) == (Spread(1.0, 2.0, 9.0), Spread(2.0, 3.0, 8.0))


@pytest.mark.parametrize(
    "value, bar, verdict",
    [(0.4, 0.4, "met"), (0.5, 0.4, "missed by 25%"), (2.0, 0, "missed by 2"), (5.0, None, "")],
)
def test_verdicts(value: float, bar: float | None, verdict: str) -> None:
    assert Row("x", Spread(0, value, 9), bar=bar).verdict == verdict


def test_a_process_is_charged_its_own_time_and_must_succeed() -> None:
    burn = "import time\nwhile time.process_time() < .2: pass"
    spent = Process([sys.executable, "-c", burn], environment).cpu_ms()
    assert 200 <= spent < 1000
    with pytest.raises(RuntimeError, match=r"ended with 3.*no luck"):
        Process([sys.executable, "-c", "import sys; sys.stderr.write('no luck'); sys.exit(3)"], environment).cpu_ms()


@pytest.mark.parametrize("name", page.TITLES)
def test_results_are_there_and_name_no_place_of_this_machine(name: str) -> None:
    result = read(name)
    assert result is not None and result["rounds"] >= 7
    assert not any(mark in str(result) for mark in ("/home", "/tmp", "/root", "127.0.0.1", "http"))


def test_the_page_is_what_the_results_say() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.text()
