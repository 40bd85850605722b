"""docs/benchmarks.svg: every bar of every table, and how far from it the figure lies. Drawn by hand: no library is needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from benchmarks.measure import ROOT, Row, Spread, read
from benchmarks.texts import TITLES

FILE = ROOT / "docs" / "benchmarks.svg"
LABELS, CHART, FIGURES, LINE, TOP = 520, 360, 170, 19, 74
LEAST, MOST = 1 / 32, 8.0
MET, OPEN, MISSED, FAINT, TEXT = "#2f7d4f", "#c98a1b", "#b3362b", "#c8ccd0", "#24292f"
FONT = "font-family='Helvetica, Arial, sans-serif'"


def write() -> None:
    """Write the plot."""
    FILE.write_text(svg(), encoding="utf-8")


def svg() -> str:
    """The plot, from what results there are."""
    groups = [(title, shown) for name, title in TITLES.items() if (shown := _shown(name))]
    lines = sum(len(rows) + 1 for _, rows in groups)
    width, height = LABELS + CHART + FIGURES, TOP + LINE * lines + 24
    parts = [*_frame(width, height), *_groups(groups)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _shown(name: str) -> list[Row]:
    """The rows that have a bar to be compared with."""
    result = read(name)
    return [row for row in result["rows"] if row.bar] if result else []


def _at(share: float) -> float:
    """The place of figure ÷ bar on the axis, which is logarithmic and ends at its limits."""
    share = min(max(share, LEAST), MOST)
    return LABELS + CHART * math.log(share / LEAST) / math.log(MOST / LEAST)


def _frame(width: int, height: int) -> Iterable[str]:
    yield f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' viewBox='0 0 {width} {height}' {FONT}>"
    yield f"<rect width='{width}' height='{height}' fill='white'/>"
    yield _text(12, 24, "What was measured, as a share of its bar (less is better)", size=15, weight="bold")
    marks = ((MET, "met"), (OPEN, "not shown: the interval holds the bar"), (MISSED, "missed"))
    at = 18.0
    for colour, meaning in marks:
        yield f"<circle cx='{at:.1f}' cy='42' r='4' fill='{colour}'/>" + _text(at + 9, 46, meaning)
        at += 30 + 6.2 * len(meaning)
    yield f"<path d='M{at:.1f} 37v10' stroke='{TEXT}' stroke-width='1.5'/>" + _text(at + 7, 46, "stretch")
    for share in (1 / 32, 1 / 8, 1 / 2, 1.0, 2.0, 8.0):
        x, strong = _at(share), share == 1.0
        colour, line = (TEXT, 1.4) if strong else (FAINT, 0.8)
        yield f"<path d='M{x:.1f} {TOP - 6}V{height - 20}' stroke='{colour}' stroke-width='{line}'/>"
        label = "bar" if strong else f"1/{1 / share:.0f}" if share < 1 else f"{share:.0f}"
        yield _text(x, TOP - 10, label, anchor="middle")


def _groups(groups: Sequence[tuple[str, list[Row]]]) -> Iterable[str]:
    y = TOP + 10.0
    for title, rows in groups:
        yield _text(12, y + 4, title.replace("`", ""), weight="bold")
        y += LINE
        for row in rows:
            yield from _row(row, y)
            y += LINE


def _row(row: Row, y: float) -> Iterable[str]:
    assert row.bar is not None
    colour = MET if row.verdict.startswith("met") else OPEN if row.verdict == "not shown" else MISSED
    what = row.what.replace("`", "")
    against = row.against.replace("`", "")
    yield _text(LABELS - 14, y + 4, _short(f"{what}  ·  {against}" if against else what), anchor="end")
    low, middle, high = (_at(value / row.bar) for value in (row.value.min, row.value.median, row.value.max))
    yield f"<path d='M{low:.1f} {y:.1f}H{high:.1f}' stroke='{colour}' stroke-width='2' stroke-opacity='.35'/>"
    if row.stretch is not None:
        yield f"<path d='M{_at(row.stretch / row.bar):.1f} {y - 5:.1f}v10' stroke='{TEXT}' stroke-width='1.5'/>"
    yield f"<circle cx='{middle:.1f}' cy='{y:.1f}' r='4' fill='{colour}'/>"
    yield _text(
        LABELS + CHART + 14, y + 4, f"{_figure(row.value, row.unit)}  (≤ {_figure(Spread.of([row.bar]), row.unit)})"
    )


def _figure(value: Spread, unit: str) -> str:
    number = value.median
    if unit == "x" and 0 < number < 0.1:
        return f"1/{1 / number:,.0f}"
    return f"{number:.3g}" + (" ×" if unit == "x" else f" {unit}")


def _short(text: str, most: int = 84) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _text(x: float, y: float, text: str, *, size: int = 11, anchor: str = "start", weight: str = "normal") -> str:
    place = f"x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' font-weight='{weight}' fill='{TEXT}'"
    return f"<text {place}>{escape(text)}</text>"
