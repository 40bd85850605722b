"""The numbers of a comparison, from the run.json files of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from hubcli import quantised
from hubcli.bases import shared_id
from hubcli.errors import HubcliError
from hubcli.plugins import plugins
from hubcli.recipe import FULL, FUSION, Recipe
from hubcli.training.compare.plan import Run
from hubcli.training.compare.seeds import over_seeds, paired
from hubcli.training.metrics import LOWER_IS_BETTER

Json = dict[str, Any]
V = 1
Done = Sequence[tuple[Run, Json]]


def table(recipe: Recipe, done: Done, methods: Sequence[str], reference: str) -> Json:
    """What `compare.json` says of runs that are done.

    Args:
        done: each run with its run.json; at least one. methods: the rows, in this order. reference: what the others are
            compared to.

    Raises:
        HubcliError: runs that were not made of the same base and rows.
    """
    _check_alike(done)
    metric = _metric(recipe, done[0][1])
    first = done[0][1]
    by_method = {method: [(run, report) for run, report in done if run.method == method] for method in methods}
    return {
        "v": V,
        "name": recipe.name,
        "task": recipe.task,
        "base": {
            **_base(first),
            "id": shared_id([first["base"]["id"]]) or Path(first["base"]["id"]).name,
            "dtype": recipe.base.dtype,
            "parameters": max(r["parameters"]["base"] for _, r in done),
        },
        "data": {
            "name": _named(first, metric),
            "rows": first["rows"],
            "by_seed": _by_seed(recipe, first),
            "files": [_as_written(recipe, file) for file in first["data"]],
        },
        "seeds": sorted({run.seed for run, _ in done}),
        "metric": metric,
        "reference": reference,
        "methods": [_row(runs, metric) for runs in by_method.values() if runs],
        "differences": _differences(by_method, metric, reference),
        "versions": _common([report["versions"] for _, report in done]),
    }


def _check_alike(done: Done) -> None:
    """Rows and weights that differ make numbers that say nothing of the methods."""
    for what in ("rows", "base"):
        kinds = {repr(_base(report) if what == "base" else report[what]): run for run, report in done}
        if len(kinds) > 1:
            one, other = list(kinds.values())[:2]
            raise HubcliError(f"{one.folder} and {other.folder} are runs with another {what}: they can't be compared")


def _base(report: Json) -> Json:
    return {key: report["base"].get(key) for key in ("id", "revision", "weights_sha256")}


def _as_written(recipe: Recipe, file: Json) -> Json:
    """A file as the recipe names it: runs name it as this machine does."""
    if "path" not in file:
        return file
    written = (path for path in getattr(recipe.data, file["part"]) if Path(file["path"]) == recipe.folder / path)
    return {**file, "path": next(written, Path(file["path"]).name)}


def _by_seed(recipe: Recipe, report: Json) -> list[str]:
    """The parts whose rows the seed decides: those cut at random, what they leave of train, and those with a limit."""
    given = {file["part"] for file in report["data"]}
    cut = {part for part in report["rows"] if part not in given and recipe.split.by == "random"}
    found = {*cut, *(["train"] if cut else []), *recipe.data.limit}
    return [part for part, count in report["rows"].items() if part in found and count]


def _metric(recipe: Recipe, report: Json) -> Json:
    """The figure that the table shows: the recipe's own, else the task's first; of the test part where there is one."""
    parts = [figure["split"] for figure in report["metrics"]]
    if not parts:
        raise HubcliError("nothing was measured: the recipe has neither validation nor test rows", hint="see [split]")
    part = "test" if "test" in parts else parts[0]
    names = [figure["name"] for figure in report["metrics"] if figure["split"] == part]
    name = recipe.train.metric if recipe.train.metric in names else names[0]
    return {"name": name, "split": part, "higher_is_better": name not in LOWER_IS_BETTER}


def _named(report: Json, metric: Json) -> str:
    return str(next(f["dataset"] for f in report["metrics"] if f["split"] == metric["split"]))


def _row(runs: Done, metric: Json) -> Json:
    run, report = runs[0]
    count, linears = report["parameters"], report["linears"]
    times = [report["seconds_per_epoch"] for _, report in runs if report["seconds_per_epoch"] is not None]
    peaks = [report["peak_memory"] for _, report in runs if report["peak_memory"] is not None]
    return {
        "method": run.method,
        "config": run.recipe.method.config,
        "quantize": quantised.wanted(run.recipe),
        "train": run.recipe.document()["train"],
        "parameters": {
            "trainable": count["trainable"],
            "without_head": count["trainable"] - count["head"],
            "share": count["trainable"] / max(1, count["base"]),
        },
        "size": int(median(_size(report) for _, report in runs)),
        "metric": _figures(runs, metric["name"], metric["split"]),
        "metrics": [
            {"name": figure["name"], "split": figure["split"], **_figures(runs, figure["name"], figure["split"])}
            for figure in report["metrics"]
        ],
        "seconds_per_epoch": median(times) if times else None,
        "peak_memory": int(median(peaks)) if peaks else None,
        "linears": {**linears, "share": linears["bytes"] / max(1, linears["full_precision"])},
    }


def _size(report: Json) -> int:
    """Bytes of the weights: configs and tokenizers aside."""
    return sum(file["size"] for file in report["files"] if file["path"].endswith(".safetensors"))


def _values(runs: Done, name: str, part: str) -> dict[int, Json]:
    """By seed."""
    found = {}
    for run, report in runs:
        figure = next((f for f in report["metrics"] if (f["name"], f["split"]) == (name, part)), None)
        if figure is not None:
            found[run.seed] = {key: figure[key] for key in ("value", "n", "interval")}
    return found


def _figures(runs: Done, name: str, part: str) -> Json:
    values = _values(runs, name, part)
    mean, interval = over_seeds([figure["value"] for figure in values.values()])
    return {
        "mean": mean,
        "interval": interval and list(interval),
        "values": [{"seed": seed, **figure} for seed, figure in values.items()],
    }


def _differences(by_method: Mapping[str, Done], metric: Json, reference: str) -> list[Json]:
    """Seed by seed: each method to the reference, and a method on a quantised base to the one whose files it writes."""
    found = []
    for method in by_method:
        for other in dict.fromkeys([reference, *_plain_of(method, list(by_method))]):
            mine, its = (_values(by_method.get(m, ()), metric["name"], metric["split"]) for m in (method, other))
            seeds = [seed for seed in mine if seed in its]
            if method != other and seeds:
                mean, interval = paired([mine[s]["value"] for s in seeds], [its[s]["value"] for s in seeds])
                found.append(
                    {
                        "method": method,
                        "to": other,
                        "mean": mean,
                        "interval": interval and list(interval),
                        "seeds": seeds,
                    }
                )
    return found


def _plain_of(method: str, among: Sequence[str]) -> list[str]:
    """The methods that write the same files as one that needs a quantised base, and need none themselves."""
    if method in (FULL, FUSION) or plugins().method_class(method).quantize is None:
        return []
    own = plugins().method(method).claims
    others = [m for m in among if m not in (FULL, FUSION, method) and plugins().method_class(m).quantize is None]
    return [m for m in others if any(plugins().method(m).claims.get(key) == kind for key, kind in own.items())]


def _common(versions: Sequence[Json]) -> Json:
    """Each version, or all of them where runs differ."""
    keys = dict.fromkeys(key for found in versions for key in found)
    return {
        key: ", ".join(dict.fromkeys(str(found[key]) for found in versions if key in found))
        for key in keys
        if key != "platform"
    }
