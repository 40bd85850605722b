"""A comparison as Markdown: the table, the picture, and how the numbers were made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from hubcli.sizes import size

Json = dict[str, Any]
HEAD = (
    "method", "trainable", "without head", "of the base", "file", "{metric}", "to {reference}", "s an epoch",
    "peak memory", "linears' weights",
)  # fmt: skip
_PLACE = re.compile(r"(?<![\w.~/:])(?:~|/[^\s/:'\"`,;()]+)(?:/[^\s/:'\"`,;()]+)+")


def page(document: Json) -> str:
    """The page; `document` is what compare.json says."""
    metric, data = document["metric"], document["data"]
    better = "higher" if metric["higher_is_better"] else "lower"
    rows = ", ".join(f"{count:,} {part}" for part, count in data["rows"].items() if count)
    blocks = [
        f"# {document['name'] or data['name']}: methods side by side",
        f"{data['name']} ({rows}), task {document['task']}, base {_code(document['base']['id'])} with "
        f"{document['base']['parameters']:,} parameters in {document['base']['dtype']}.",
        "\n".join(_table(cells(document))),
        "![The metric against the number of trainable parameters](compare.svg)",
        f"{metric['name']} is on the {metric['split']} rows, {better} is better: the mean over seeds "
        f"{', '.join(map(str, document['seeds']))} ± half of its 95 % t interval; "
        "differences are paired by seed, with their 95 % t interval. Seconds and peak memory are medians over seeds, of a "
        "process that trains; the memory is the machine's own, none of a GPU's. The file is the safetensors alone. "
        "The last column is the memory of the base's linear modules that the method changes (of all but heads, where it "
        "changes none), as loaded, and its share of what they take in the base's dtype.",
        *_beside(document),
        *_read_with(document),
        *_failed(document),
        "## How it was made",
        "\n".join(_made(document)),
    ]
    return "\n\n".join(blocks) + "\n"


def cells(document: Json) -> list[tuple[str, ...]]:
    """The table as text, its head first."""
    names = {"metric": document["metric"]["name"], "reference": document["reference"]}
    head = tuple(title.format(**names) for title in HEAD)
    return [head, *(_row(row, document) for row in document["methods"])]


def _row(row: Json, document: Json) -> tuple[str, ...]:
    count, linears = row["parameters"], row["linears"]
    pair = (row["method"], document["reference"])
    apart = next((found for found in document["differences"] if (found["method"], found["to"]) == pair), None)
    return (
        row["method"],
        f"{count['trainable']:,}",
        f"{count['without_head']:,}",
        f"{count['share']:.2%}",
        size(row["size"]),
        mean(row["metric"]),
        "-" if apart is None else difference(apart),
        "-" if row["seconds_per_epoch"] is None else f"{row['seconds_per_epoch']:.1f}",
        "-" if row["peak_memory"] is None else size(row["peak_memory"]),
        f"{size(linears['bytes'])} ({linears['share']:.0%})",
    )


def mean(figures: Json) -> str:
    """A mean ± half of its interval; alone where one seed was trained."""
    if figures["interval"] is None:
        return f"{figures['mean']:.4f}"
    return f"{figures['mean']:.4f} ± {figures['interval'][1] - figures['mean']:.4f}"


def difference(found: Json) -> str:
    """A signed mean with its interval."""
    between = "" if found["interval"] is None else " ({:+.4f} to {:+.4f})".format(*found["interval"])
    return f"{found['mean']:+.4f}{between}"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    for at, row in enumerate(rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
        if at == 0:
            yield "| --- |" + " ---: |" * (len(row) - 1)


def _beside(document: Json) -> Iterator[str]:
    """The differences that are not to the reference, and the seeds where a method lacks some."""
    for found in document["differences"]:
        if found["to"] != document["reference"]:
            yield f"{found['method']} to {found['to']}, seed by seed: {difference(found)}."
    for row in document["methods"]:
        seeds = [value["seed"] for value in row["metric"]["values"]]
        if seeds != document["seeds"]:
            yield f"{row['method']} has seeds {', '.join(map(str, seeds))} alone."


def _read_with(document: Json) -> Iterator[str]:
    """What seconds and figures have to be read with."""
    shared = [run for run in document["runs"] if (run.get("jobs") or 1) > 1]
    if shared:
        methods = ", ".join(dict.fromkeys(run["method"] for run in shared))
        most = max(run["jobs"] for run in shared)
        yield f"Up to {most} trainings shared the machine while {methods} trained: the seconds are longer for it."
    if by_seed := document["data"]["by_seed"]:
        yield f"Each seed has rows of its own ({', '.join(by_seed)}): intervals hold what that changes, too."


def _failed(document: Json) -> Iterator[str]:
    for run in document["failed"]:
        yield f"{run['method']}, seed {run['seed']}, failed: {_code(_PLACE.sub(_last, run['message']))}"


def _last(place: re.Match[str]) -> str:
    """Of a path of this machine the last part."""
    return "…" + place[0][place[0].rindex("/") :]


def _made(document: Json) -> Iterator[str]:
    base, data = document["base"], document["data"]
    yield f"- recipe: {_code(document['recipe'])}; seeds {', '.join(map(str, document['seeds']))}"
    revision = f", revision {_code(base['revision'])}" if base["revision"] else ""
    weights = f", weights sha256 {_code(base['weights_sha256'])}" if base["weights_sha256"] else ""
    yield f"- base: {_code(base['id'])}{revision}{weights}"
    for file in data["files"]:
        named = file.get("path") or file.get("dataset")
        said = file.get("sha256") or file.get("fingerprint") or "-"
        yield f"- {file['part']} rows: {_code(named)}, {file['rows']:,} rows, sha256 or fingerprint {_code(said)}"
    for row in document["methods"]:
        quantised = f", base in {row['quantize']}" if row["quantize"] else ""
        yield f"- {row['method']}: {_code(json.dumps(row['config'], ensure_ascii=False))}{quantised}{_trained(row['train'])}"
    yield "- versions: " + ", ".join(f"{name} {version}" for name, version in document["versions"].items())


def _trained(train: Json) -> str:
    often = f"{train['max_steps']} steps" if train["max_steps"] else f"{train['epochs']:g} epochs"
    return f"; {often}, batches of {train['batch_size']}, learning rate {train['learning_rate']:g}"


def _code(text: Any) -> str:
    """As code: nothing in it is Markdown."""
    one_line = " ".join(str(text).split())
    fence = "`" * (1 + max((len(run) for run in _ticks(one_line)), default=0))
    return f"{fence} {one_line} {fence}" if "`" in one_line else f"`{one_line}`"


def _ticks(text: str) -> list[str]:
    return re.findall("`+", text)
