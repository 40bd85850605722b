"""compare: methods side by side, on the command line."""

from __future__ import annotations

from typing import Any

import click

from hubcli import api
from hubcli.cli.common import Output, command
from hubcli.cli.text import columns
from hubcli.cli.train import _pairs, _values
from hubcli.errors import EXIT_FAILED, EXIT_OK, UsageError

Json = dict[str, Any]


@command(
    writes=True,
    examples="""hubcli compare recipe.toml --methods full,lora,bottleneck
hubcli compare recipe.toml --methods full,lora --seeds 5 --jobs 2 --out runs/compared
hubcli compare recipe.toml --seeds 20,21,22 --reference lora --set train.epochs=2
hubcli compare recipe.toml --methods full,lora --dry-run""",
)
@click.argument("recipe")
@click.option("--methods", metavar="LIST", help="PEFT methods, or full; default: the recipe's and those of [compare].")
@click.option(
    "--seeds", metavar="N|LIST", default="3", show_default=True, help="How many, from the recipe's on; or a list."
)
@click.option(
    "--out", "folder", metavar="DIR", help="The folder of all runs; default: runs/compare-<the recipe's name>."
)
@click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe for all; VALUE as in TOML."
)
@click.option("--reference", metavar="METHOD", help="What the others are compared to; default: full, else the first.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="How many trainings run at once.")
@click.option("--force", is_flag=True, help="Train anew, also what is done.")
def compare(out: Output, recipe: str, **options: Any) -> int:
    """Train one recipe with several methods and seeds, and put them side by side.

    Each training is a run of 'hubcli train' in a process of its own, in DIR/METHOD-SEED. [compare.METHOD] in the recipe says
    what is different for a method: config, head, quantize, train. DIR gets a table and a picture: compare.md, .json, .svg,
    .png. After Ctrl-C or a crash the same command finishes the job: runs that are done are taken as they are, those that
    were broken off go on. One that fails is told with its log (exit code 1), and the others go on.
    """
    methods, changes, folder = options.pop("methods"), options.pop("changes"), options.pop("folder")
    report = api.compare(
        recipe,
        None if methods is None else _listed("--methods", methods),
        seeds=_seeds(options.pop("seeds")),
        out=folder,
        changes=_values(_pairs(changes)),
        offline=options.pop("offline") or None,
        warn=out.warn,
        say=out.note,
        **options,
    )
    out.data(report, _lines(report))
    for run in report["failed"]:
        out.warn(f"{run['method']}, seed {run['seed']}: failed, see {run['log']}: {run['message']}")
    return EXIT_FAILED if report["failed"] else EXIT_OK


def _listed(option: str, text: str) -> list[str]:
    found = [part.strip() for part in text.split(",")]
    if not all(found):
        raise UsageError(f"{option}: expected names with commas between, found {text!r}")
    return found


def _seeds(text: str) -> int | list[int]:
    """A number is how many; a list, also of one (`20,`), is the seeds themselves."""
    try:
        found = [int(part) for part in text.removesuffix(",").split(",")]
    except ValueError:
        raise UsageError(f"--seeds: expected a number, or numbers with commas between, found {text!r}") from None
    return found if "," in text else found[0]


def _lines(report: Json) -> list[str]:
    if "methods" not in report:
        runs = [(run["method"], run["seed"], run["status"], run["path"]) for run in report["runs"]]
        return columns(runs, ("METHOD", "SEED", "STATE", "RUN"))
    from hubcli.api.compare_page import cells, difference

    head, *rows = cells(report)
    lines = columns(rows, tuple(title.upper() for title in head))
    beside = [found for found in report["differences"] if found["to"] != report["reference"]]
    lines += [f"{found['method']} to {found['to']}: {difference(found)}" for found in beside]
    return [*lines, f"wrote {report['path']}/compare.md, .json, .svg, .png"]
