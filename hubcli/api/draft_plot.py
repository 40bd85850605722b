"""A picture of stated figures with their intervals, for a card that has no other. Without matplotlib there is none."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence

from hubcli.manifest import Metric

PLOT = "figures.png"
MOST = 12  # figures in one picture


def drawn(metrics: Sequence[Metric]) -> bytes | None:
    """A PNG of the shares among the figures, each with its interval; None where there are none, or nothing to draw with."""
    shares = [m for m in metrics if m.interval is not None and 0 <= m.interval[0] <= m.interval[1] <= 1][:MOST]
    if not shares or importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 0.8 + 0.4 * len(shares)), layout="constrained")
    axes = figure.add_subplot()
    for place, metric in enumerate(shares):
        assert metric.interval is not None
        axes.plot(metric.interval, (place, place), color="0.5", linewidth=2)
        axes.plot(metric.value, place, "o", color="C0")
    labels = [f"{m.name}, {m.dataset} ({m.split})"[:60].replace("$", r"\$") for m in shares]
    axes.set_yticks(range(len(shares)), labels)
    axes.set(xlim=(0, 1), xlabel="value, 95 % interval")
    axes.invert_yaxis()
    raw = io.BytesIO()
    FigureCanvasAgg(figure).print_png(raw, metadata={"Software": None})
    return raw.getvalue()
