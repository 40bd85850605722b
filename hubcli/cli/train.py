"""train: an adapter from a recipe, on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from hubcli import api
from hubcli.api.training import BrokenOff
from hubcli.cli.common import Interrupted, Output, command, first
from hubcli.errors import UsageError
from hubcli.sizes import size

Json = dict[str, Any]
# option -> the recipe's key
SHORT = {
    "base": ("base.id", "The base: a hub id or a folder."),
    "method": ("method.name", "The PEFT method, full, or fusion."),
    "data": ("data.train", "The file to train on."),
    "epochs": ("train.epochs", "How often to see every row."),
    "batch-size": ("train.batch_size", "Rows a step."),
    "learning-rate": ("train.learning_rate", "The optimiser's."),
    "precision": ("train.precision", "fp32, bf16 or fp16."),
    "seed": ("seed", "What decides everything drawn by chance."),
}

USED = ("force", "dry_run", "offline")  # by --init


def _short(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, (key, text) in reversed(SHORT.items()):
        function = click.option(f"--{name}", metavar="VALUE", help=f"{text} Short for --set {key}=VALUE.")(function)
    return function


@command(
    writes=True,
    examples="""hubcli train --init recipe.toml
hubcli train recipe.toml
hubcli train recipe.toml --epochs 1 --set method.config.r=16 --out runs/r16
hubcli train recipe.toml --out runs/r16 --resume
hubcli run ./runs/r16/adapter "a gripping film"
accelerate launch --multi_gpu --num_processes 2 -m hubcli train recipe.toml
""",
)
@click.argument("recipe")
@click.option("--init", is_flag=True, help="Write RECIPE, with a comment on every key, and train nothing.")
@click.option("--out", "folder", metavar="DIR", help="The run's folder; default: runs/<the recipe's name>.")
@click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe; VALUE as in TOML."
)
@_short
@click.option("--resume", is_flag=True, help="Go on with a run that was broken off, from its last checkpoint.")
@click.option("--force", is_flag=True, help="Replace a run, or with --init a file, that is there.")
@click.option("--keep-checkpoints", is_flag=True, help="Leave the checkpoints in the run's folder.")
def train(out: Output, recipe: str, init: bool, changes: tuple[str, ...], **options: Any) -> None:
    """Train an adapter, a fusion, or a whole model, as a recipe says.

    A recipe is a TOML file: base, method, data, how to train. The run's folder gets the adapter, the recipe with every
    default filled in, metrics, a plot of the loss, versions and hashes; the figures are of the adapter as it was saved. A run
    that was broken off (Ctrl-C, a crash) goes on with --resume and ends with the same numbers on a CPU.
    """
    short = {key: options.pop(name.replace("-", "_")) for name, (key, _) in SHORT.items()}
    if init:
        _init(out, recipe, {**short, **options, "set": changes})
        return
    out = out if first() else Output(json=out.json, mute=True)
    given = {**{key: value for key, value in short.items() if value is not None}, **_pairs(changes)}
    offline, folder = options.pop("offline"), options.pop("folder")
    try:
        report = api.train(
            recipe,
            folder,
            changes=_values(given),
            offline=offline or None,
            warn=out.warn,
            say=out.note,
            bar=not (out.quiet or out.json),
            **options,
        )
    except BrokenOff as stop:
        raise Interrupted("broken off", stop.hint) from stop
    if report:
        out.data(report, _lines(report))


def _init(out: Output, file: str, options: Json) -> None:
    names = {**{key: name for name, (key, _) in SHORT.items()}, "folder": "out", "keep_checkpoints": "keep-checkpoints"}
    unused = [f"--{names.get(key, key)}" for key, value in options.items() if value and key not in USED]
    if unused:
        raise UsageError(
            f"--init writes a recipe with every default; it takes no {', '.join(unused)}", hint=f"edit {file} after it"
        )
    report = api.train_init(file, force=options["force"], dry_run=options["dry_run"])
    out.data(report, [f"{'wrote' if report['written'] else 'would write'} {report['path']}"])


def _pairs(changes: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set: expected KEY=VALUE, found {change!r}", hint="--set train.epochs=2")
        found[key.strip()] = value
    return found


def _values(given: dict[str, str]) -> dict[str, Any]:
    from hubcli.recipe import value_of

    return {key: value_of(value) for key, value in given.items()}


def _lines(report: Json) -> list[str]:
    rows = ", ".join(f"{count:,} {part}" for part, count in report["rows"].items())
    lines = [f"{report['method']} on {report['base']['id']} ({report['task']}): {rows}"]
    if report["status"] == "checked":
        return [*lines, f"recipe and data are fit; would write {report['path']}"]
    counts = report["parameters"]
    share = counts["trainable"] / max(1, counts["base"])
    memory = "" if report["peak_memory"] is None else f", at most {size(report['peak_memory'])} of memory"
    epoch = "" if report["seconds_per_epoch"] is None else f", {report['seconds_per_epoch']:.1f} s an epoch"
    lines.append(f"{counts['trainable']:,} parameters ({share:.2%} of the base){epoch}{memory}")
    lines += [_figure(metric) for metric in report["metrics"]]
    whole = size(sum(file["size"] for file in report["files"]))
    best = report["best"]
    if best is not None:
        lines.append(
            f"kept step {best['step']} of {report['steps']}, the first of the best by validation {best['metric']}"
        )
    return [*lines, f"wrote {report['path']} ({whole})"]


def _figure(metric: Json) -> str:
    interval = "" if metric["interval"] is None else " [{:.4g}, {:.4g}]".format(*metric["interval"])
    return f"{metric['split']} {metric['name']}: {metric['value']:.4g}{interval} (n = {metric['n']:,})"
