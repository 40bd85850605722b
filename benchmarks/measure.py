"""Timing and statistics: CPU time of whole processes or of calls, contestants in random order each round, medians."""

from __future__ import annotations

import json
import os
import platform
import random
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
PROGRAMS = Path(sys.executable).parent


@dataclass(frozen=True)
class Spread:
    """Least, median and greatest of the rounds."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        return cls(min(values), statistics.median(values), max(values))


@dataclass(frozen=True)
class Row:
    """One line of a table: a figure, the most it may be, and the times it was made of.

    Args:
        what: what was measured.
        value: a ratio (`unit` "x"), or a figure in `unit`.
        bar: the most that the median of `value` may be; None where it is for information.
        against: for a ratio, what the figure is compared with.
        own, peer: the times behind a ratio, in milliseconds.
        stretch: what would be better still than the bar.
        interval: of a ratio near 1, the 95 % interval of its median; the whole of it has to lie at or under the bar.
    """

    what: str
    value: Spread
    unit: str = "x"
    bar: float | None = None
    against: str = ""
    own: Spread | None = None
    peer: Spread | None = None
    stretch: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def verdict(self) -> str:
        """met, missed by how much, not shown (an interval that holds the bar), or "" where there is no bar."""
        if self.bar is None:
            return ""
        over = self.value.median - self.bar
        least, most = self.interval or (self.value.median, self.value.median)
        if most <= self.bar:
            return "met, stretch too" if self.stretch is not None and most <= self.stretch else "met"
        if least <= self.bar:
            return "not shown"
        return f"missed by {over / self.bar:.0%}" if self.bar else f"missed by {over:g}"


@dataclass(frozen=True)
class Process:
    """A program to time. `prepare` makes its environment anew, untimed; `check` looks at what it left, untimed."""

    argv: Sequence[str]
    prepare: Callable[[], Mapping[str, str]]
    check: Callable[[Mapping[str, str]], None] = lambda _: None

    def cpu_ms(self) -> float:
        """Run it once: its user and system time, with that of the children it waited for."""
        environment = self.prepare()
        with subprocess.Popen(
            self.argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            assert process.stderr is not None
            said = process.stderr.read()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(self.argv)} ended with {process.returncode}: {said.decode()[-2000:]}")
        self.check(environment)
        return (used.ru_utime + used.ru_stime) * 1000


def call_cpu_ms(function: Callable[[], object], times: int = 1) -> float:
    """CPU time of one call in this process, the mean over `times` calls."""
    start = time.process_time_ns()
    for _ in range(times):
        function()
    return (time.process_time_ns() - start) / 1e6 / times


def rounds_of(contestants: Mapping[str, Callable[[], float]], rounds: int, seed: int) -> dict[str, list[float]]:
    """Times of each contestant, one a round; each round in another order, after one round that does not count."""
    order, random_order = list(contestants), random.Random(seed)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        random_order.shuffle(order)
        for name in order:
            spent = contestants[name]()
            if number:
                times[name].append(spent)
    return times


def ratio(what: str, own: Sequence[float], against: str, peer: Sequence[float], bar: float | None = None) -> Row:
    """A row that compares times of the same rounds, round by round."""
    ratios = [one / other for one, other in zip(own, peer, strict=True)]
    return Row(what, Spread.of(ratios), bar=bar, against=against, own=Spread.of(own), peer=Spread.of(peer))


def environment(**settings: str) -> dict[str, str]:
    """The environment of a measured process: one thread, no settings of this user, no network but the hub it is given."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT", "TMPDIR") if name in os.environ}
    quiet = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_UPDATE_CHECK")
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return {**kept, **threads, **dict.fromkeys(quiet, "1"), "COLUMNS": "100", **settings}


@dataclass
class Result:
    """One benchmark's rows, with what is needed to judge and to repeat them."""

    name: str
    rounds: int
    seed: int
    rows: list[Row] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    packages: tuple[str, ...] = ("hubcli", "huggingface_hub", "click")
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])

    def write(self) -> None:
        """Write `benchmarks/results/<name>.json`."""
        document = {
            "name": self.name,
            "rounds": self.rounds,
            "seed": self.seed,
            "commit": _commit(),
            "machine": _machine(),
            "load": {"before": round(self.load_before, 2), "after": round(os.getloadavg()[0], 2)},
            "versions": _versions(self.packages),
            "facts": self.facts,
            "rows": [{**asdict(row), "verdict": row.verdict} for row in self.rows],
        }
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps(_rounded(document), indent=1, ensure_ascii=False)
        (RESULTS / f"{self.name}.json").write_text(text + "\n", encoding="utf-8")


def read(name: str) -> dict[str, Any] | None:
    """A result as written, its rows as `Row`; None where it was never run."""
    file = RESULTS / f"{name}.json"
    if not file.exists():
        return None
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    document["rows"] = [_row(row) for row in document["rows"]]
    return document


def _row(row: dict[str, Any]) -> Row:
    del row["verdict"]
    return Row(**{key: Spread(**value) if isinstance(value, dict) else value for key, value in row.items()})


def _rounded(value: Any) -> Any:
    """Figures to five digits: the rest is noise."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", "hubcli", "plugins", "schemas", "registry-index")
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def _machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    models = [line for line in cpuinfo.read_text().splitlines() if "model name" in line] if cpuinfo.exists() else []
    model = models[0].partition(":")[2].strip() if models else platform.processor() or platform.machine()
    return {"system": f"{platform.system()} {platform.machine()}", "cpu": model, "cores": os.cpu_count()}


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {name: version(name) for name in packages}
    return {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, **found}
