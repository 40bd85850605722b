"""docs/benchmarks.md, from the results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks import plot
from benchmarks.measure import ROOT, Row, Spread, read
from benchmarks.texts import METHOD, NOTES, TITLES, WHY

PAGE = ROOT / "docs" / "benchmarks.md"


def write() -> None:
    """Write the page and its plot."""
    plot.write()
    PAGE.write_text(text(), encoding="utf-8")


def text() -> str:
    """The page, from what results there are."""
    return "\n".join(_lines()).rstrip("\n") + "\n"


def _lines() -> Iterable[str]:
    yield METHOD
    yield f"![every figure beside its bar]({plot.FILE.name})\n"
    for name, title in TITLES.items():
        result = read(name)
        if result is None:
            continue
        yield f"## {title}\n"
        yield NOTES[name].format(**result["facts"]) + "\n"
        yield from table(result["rows"])
        yield from _reasons(result["rows"])
        yield f"\n{_setting(result)}\n"


def table(rows: Iterable[Row]) -> Iterable[str]:
    """A Markdown table."""
    yield "| what | against | ms | peer, ms | figure | bar | stretch | verdict |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for row in rows:
        bar = "" if row.bar is None else f"≤ {_number(row.bar, row.unit)}{_unit(row.unit)}"
        stretch = "" if row.stretch is None else f"{_number(row.stretch, row.unit)}{_unit(row.unit)}"
        cells = (row.what, row.against, _median(row.own), _median(row.peer), _figure(row), bar, stretch, row.verdict)
        yield "| " + " | ".join(cells) + " |"


def _reasons(rows: Iterable[Row]) -> Iterable[str]:
    """Why a bar is missed and what would get there."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.bar is not None and not row.verdict.startswith("met"):
            for reason in (text for start, text in WHY.items() if row.what.startswith(start)):
                reasons.setdefault(reason, []).append(row.what)
    for reason, whats in reasons.items():
        yield f"\n*{'; '.join(whats)}*: {reason}"


def _figure(row: Row) -> str:
    low, middle, high = (_number(value, row.unit) for value in (row.value.min, row.value.median, row.value.max))
    spread = f" ({low} to {high})" if low != high else ""
    sure = "; 95 %: {:.3f} to {:.3f}".format(*row.interval) if row.interval else ""
    return f"{middle}{_unit(row.unit)}{spread}{sure}"


def _unit(unit: str) -> str:
    return " ×" if unit == "x" else f" {unit}" if unit else ""


def _median(spread: Spread | None) -> str:
    return "" if spread is None else _number(spread.median)


def _number(value: float, unit: str = "") -> str:
    if unit == "x" and 0 < value < 0.01:
        return f"1/{1 / value:,.0f}"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _setting(result: dict[str, Any]) -> str:
    machine, load = result["machine"], result["load"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return (
        f"{result['rounds']} rounds, seed {result['seed']}, commit {result['commit']}; {versions}; {machine['system']}, "
        f"{machine['cpu']}, {machine['cores']} cores; load average {load['before']} before, {load['after']} after."
    )
