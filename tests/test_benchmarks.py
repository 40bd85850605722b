"""The benchmarks' arithmetic, and the page against the results it is written from."""

from __future__ import annotations

import io
import itertools
import math
import re
import statistics
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from benchmarks import __main__ as command
from benchmarks import adapters_peer, page, plot
from benchmarks.batches import BATCHES, ROWS
from benchmarks.measure import ROOT, Process, Row, Spread, environment, ratio, read, rounds_of
from benchmarks.paired import Timed, added, added_by, interval, same, total
from benchmarks.texts import NOTES, TITLES, WHY


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


@pytest.mark.parametrize(
    "bounds, verdict",
    [
        ((0.97, 1.02), "met"),
        ((0.97, 0.98), "met, stretch too"),
        ((0.97, 1.03), "not shown"),
        ((1.03, 1.05), "missed by 2%"),
    ],
)
def test_near_one_the_whole_interval_has_to_lie_under_the_bar(bounds: tuple[float, float], verdict: str) -> None:
    row = Row("x", Spread(0.9, 1.04, 1.1), bar=1.02, stretch=0.98, interval=bounds)
    assert row.verdict == verdict


@pytest.mark.parametrize("n", range(6, 16))
def test_an_interval_holds_the_median_as_often_as_it_says(n: int) -> None:
    """Brute force: n values lie above or below the median like n coins; all 2^n cases are counted."""
    ranks = interval(list(range(n)))
    low, high = int(ranks[0]), int(ranks[1])

    def covered(low: int, high: int) -> float:
        below = (sum(coins) for coins in itertools.product((0, 1), repeat=n))
        return sum(low < count <= high for count in below) / 2**n

    assert high == n - 1 - low
    assert covered(low, high) >= 0.95
    assert low == (n - 1) // 2 or covered(low + 1, high - 1) < 0.95


def test_what_is_added_is_taken_from_the_base_of_the_same_round() -> None:
    times = {
        "base": [10.0, 20.0, 30.0],
        "own": [11.0, 23.0, 34.0],
        "peer": [12.0, 30.0, 32.0],
        "theirs": [8.0, 8.0, 8.0],
    }
    assert added("x", times, "own", "peer", bar=1).value == Spread.of([1 / 2, 3 / 10, 4 / 2])
    assert added_by("x", times, "own", "base", "peer", "theirs").value == Spread.of([1 / 4, 3 / 22, 4 / 24])
    assert total("x", times, "own", "peer").value == Spread.of([11 / 12, 23 / 30, 34 / 32])
    assert total("x", times, "own", "peer", close=True).interval == (23 / 30, 34 / 32)


def test_a_call_is_repeated_until_it_can_be_timed_and_what_prepares_it_does_not_count() -> None:
    calls: list[str] = []
    timed = Timed(lambda: calls.append("call"), ms=0.5, prepare=lambda: calls.append("prepare"))
    timed()
    assert calls[:3] == ["prepare", "call", "call"] and timed.times > 1
    del calls[:]
    timed()
    assert calls == ["prepare"] + ["call"] * timed.times


@pytest.mark.parametrize("apart", [2e-4, math.nan])
def test_answers_that_differ_are_not_timed(apart: float) -> None:
    import torch

    same("close", torch.zeros(2), torch.full((2,), 5e-5))
    with pytest.raises(RuntimeError, match="outputs differ"):
        same("far", torch.zeros(2), torch.tensor([0.0, apart]))


def test_batches_are_whole() -> None:
    for batch in BATCHES:
        rows = batch.rows(1)
        assert len(rows) == ROWS and sorted(map(rows.count, batch.names)) == sorted(batch.sizes)
        assert rows != sorted(rows, key=batch.names.index)


def test_a_process_is_charged_its_own_time_and_must_succeed() -> None:
    burn = "import time\nwhile time.process_time() < .2: pass"
    spent = Process([sys.executable, "-c", burn], environment).cpu_ms()
    assert 200 <= spent < 1000
    with pytest.raises(RuntimeError, match=r"ended with 3.*no luck"):
        Process([sys.executable, "-c", "import sys; sys.stderr.write('no luck'); sys.exit(3)"], environment).cpu_ms()


@pytest.mark.parametrize("name", page.TITLES)
def test_results_are_there_and_name_no_place_of_this_machine(name: str) -> None:
    result = read(name)
    assert result is not None and result["rounds"] >= (2 if name == "memory" else 7)
    assert not any(mark in str(result) for mark in ("/home", "/tmp", "/root", "127.0.0.1", "http"))


def test_the_page_is_what_the_results_say() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.text()
    assert plot.FILE.read_text(encoding="utf-8") == plot.svg()


def test_the_plot_shows_each_row_that_has_a_bar_within_its_frame() -> None:
    root = ET.fromstring(plot.svg())
    rows = [row for name in TITLES for row in read(name)["rows"] if row.bar]  # type: ignore[index]
    dots = [element for element in root if element.tag.endswith("circle")]
    assert len(dots) == len(rows) + 3  # and those of the legend
    assert all(0 < float(dot.get("cy", 0)) < float(root.get("height", 0)) for dot in dots)


def test_every_benchmark_has_a_title_and_a_note_and_reasons_name_rows() -> None:
    assert set(TITLES) == set(NOTES) == {*command.PROCESSES, *command.TENSORS}
    whats = [row.what for name in TITLES for row in read(name)["rows"]]  # type: ignore[index]
    assert all(any(what.startswith(start) for what in whats) for start in WHY)


def test_an_unknown_name_is_refused_before_anything_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nope"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "no such benchmark: nope" in done.stderr


def test_the_allocator_of_the_tensor_benchmarks_keeps_what_it_has() -> None:
    """Without the setting a 16 MB block is mapped and given back at every use, at a page fault for each 4 kB."""
    program = """if True:
        import resource
        faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for round in range(3):
            before = faults()
            bytearray(1 << 24)
        print(faults() - before)"""
    for settings, few in ((command.PINNED, True), ({"MALLOC_MMAP_THRESHOLD_": "65536"}, False)):
        said = subprocess.run(
            [sys.executable, "-c", program], env=environment(**settings), capture_output=True, text=True, check=True
        )
        assert (int(said.stdout) < 100) is few or sys.platform != "linux"


def test_the_peers_environment_is_pinned_whole() -> None:
    lines = [line for line in adapters_peer.REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9.]+", line) for line in lines)
    assert {"adapters", "torch", "transformers"} <= {line.partition("==")[0] for line in lines}


def test_a_worker_is_asked_in_lines_of_json() -> None:
    """The protocol with a stand-in for the worker, which needs the library."""
    program = (
        "import json, sys\nfor _ in range(2): print(json.dumps(len(json.loads(sys.stdin.readline()))), flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        worker = adapters_peer.Peer(process)
        assert worker.ask("case", name="x", ids=[[1]]) == 3
        assert worker.timed("x")() == 3.0
        process.wait()
        process.stdin = io.StringIO()
        with pytest.raises(RuntimeError, match="the adapters worker ended with 0"):
            worker.ask("time", name="x")
