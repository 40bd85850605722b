"""Pictures of a run, as SVG and PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hubcli.errors import MissingExtraError
from hubcli.training.journal import METRICS, lines


def figure() -> Any:
    """(figure, axes) that no screen is needed for.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("pictures need matplotlib", hint="pip install 'hubcli[train]'") from error
    made = Figure(figsize=(7, 4), layout="constrained")
    return made, made.subplots()


def written(picture: Any, folder: Path, name: str) -> list[str]:
    """Write NAME.svg and NAME.png; the same bytes each time."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        picture.savefig(folder / f"{name}.svg", metadata={"Date": None})
        picture.savefig(folder / f"{name}.png", dpi=120, metadata={"Software": None})
    return [f"{name}.svg", f"{name}.png"]


def loss_plot(folder: Path, metric: str) -> list[str]:
    """Training loss and validation metric against the step."""
    rows = lines(folder / METRICS)
    picture, axes = figure()
    loss = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    held = [(row["step"], row[f"eval_{metric}"]) for row in rows if f"eval_{metric}" in row]
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    drawn = axes.plot(*zip(*loss, strict=True), color="tab:blue", label="training loss") if loss else []
    if held:
        other = axes.twinx()
        other.set_ylabel(f"validation {metric}")
        drawn += other.plot(*zip(*held, strict=True), color="tab:orange", marker="o", label=f"validation {metric}")
    if drawn:
        axes.legend(handles=drawn, loc="center right")
    return written(picture, folder, "loss")
