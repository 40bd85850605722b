"""The picture of a comparison: the metric against how many parameters train."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hubcli.training.plots import figure, written

Json = dict[str, Any]
NAME = "compare"
NEAR, FAR, STEP = 8, 80, 6  # points that a label stands off what it names
WAYS = ((1, 0, "left", "center"), (-1, 0, "right", "center"), (0, 1, "center", "bottom"), (0, -1, "center", "top"),
        (1, 1, "left", "bottom"), (1, -1, "left", "top"), (-1, 1, "right", "bottom"), (-1, -1, "right", "top"))  # fmt: skip


def picture(document: Json, folder: Path) -> list[str]:
    """Write compare.svg and compare.png; their names.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return written(drawn(document), folder, NAME)


def drawn(document: Json) -> Any:
    """The figure: a point a method with its interval; what trains the whole base is a line, too."""
    made, axes = figure()
    rows, metric = document["methods"], document["metric"]
    points = [(row["parameters"]["trainable"], row["metric"]["mean"]) for row in rows]
    axes.set_xscale("log")
    _ticks(axes, [x for x, _ in points])
    axes.set_xlabel("trainable parameters, head included")
    axes.set_ylabel(f"{metric['split']} {metric['name'].replace('_', ' ')}")
    axes.set_title(f"{document['data']['name']}, {document['base']['id']}", fontsize="medium", wrap=True)
    axes.grid(visible=True, color="0.9", linewidth=0.6)
    axes.margins(y=0.16)
    axes.set_xlim(*_around([x for x, _ in points]))
    lines: list[float] = []
    colours: list[Any] = []
    for row, (x, y) in zip(rows, points, strict=True):
        whole = row["parameters"]["trainable"] >= document["base"]["parameters"]
        interval = row["metric"]["interval"]
        error = None if interval is None else [[y - interval[0]], [interval[1] - y]]
        style = {"fmt": "D", "color": "black"} if whole else {"fmt": "o"}
        colours.append(axes.errorbar([x], [y], yerr=error, capsize=4, markersize=6, **style).lines[0].get_color())
        if whole:
            lines.append(y)
            axes.axhline(y, color="black", linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    for label, colour in zip(_labelled(made, axes, points, rows, lines), colours, strict=True):
        label.set_color(colour)  # several may have as many parameters
    return made


def _around(counts: Sequence[float]) -> tuple[float, float]:
    """The ends of a logarithmic axis with room for a name on either side."""
    low, high = max(1, min(counts)), max(1, *counts)
    room = max(1.5, (high / low) ** 0.16)
    return low / room, high * room


def _ticks(axes: Any, counts: Sequence[float]) -> None:
    """As many numbers as fit: 200k, 500k, 1M within a decade or two, else the powers of ten."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    near = max(counts) / max(1, min(counts)) < 300
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if near else (1,), numticks=20))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _labelled(
    made: Any, axes: Any, points: Sequence[tuple[float, float]], rows: Sequence[Json], lines: Sequence[float]
) -> list[Any]:
    """Put each name where it covers no other name, no point, no error bar, no line and no edge; the labels."""
    from matplotlib.transforms import Bbox

    made.draw_without_rendering()
    made.set_layout_engine("none")  # the labels are placed by what was laid out
    view, pixel = axes.get_window_extent(), made.dpi / 72
    taken, labels = [], []
    for (x, y), row in zip(points, rows, strict=True):
        low, high = row["metric"]["interval"] or (y, y)
        ends = axes.transData.transform([(x, low), (x, high)])
        taken.append(Bbox([ends[0] - 5 * pixel, ends[1] + 5 * pixel]))
    taken += [
        Bbox([[view.x0, line - 2 * pixel], [view.x1, line + 2 * pixel]])
        for line in (axes.transData.transform((1, y))[1] for y in lines)
    ]
    for row, point in zip(rows, points, strict=True):
        label = axes.annotate(row["method"], point, (0, 0), textcoords="offset points", fontsize="medium")
        box = next((b for b in _tries(label) if _inside(b, view) and not b.count_overlaps(taken)), None)
        if box is None:  # nowhere is free: on top of its point
            label.set(position=(0, NEAR), ha="center", va="bottom")
            box = label.get_window_extent()
        taken.append(box)
        labels.append(label)
    return labels


def _tries(label: Any) -> Iterator[Any]:
    """The label's box at one place after another, the nearest first; it stays at the last one asked for."""
    for off in range(NEAR, FAR, STEP):
        for right, up, ha, va in WAYS:
            label.set(position=(right * off, up * off), ha=ha, va=va)
            yield label.get_window_extent()


def _inside(box: Any, view: Any) -> bool:
    return bool(view.x0 < box.x0 and box.x1 < view.x1 and view.y0 < box.y0 and box.y1 < view.y1)
