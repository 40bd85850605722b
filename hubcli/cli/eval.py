"""eval: figures of an adapter or a composition on labelled data, on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from hubcli import api
from hubcli.cli.common import Output, command
from hubcli.cli.text import columns
from hubcli.errors import UsageError
from hubcli.recipe import COLUMNS, PARTS


@command(
    writes=True,
    name="eval",
    examples="""hubcli eval sentiment/bert-lora --data reviews.csv
hubcli eval sentiment/bert-lora --data reviews.csv --column text=review --label-map pos=positive --label-map neg=negative
hubcli eval ./my-adapter --recipe recipe.toml --part validation --no-write
hubcli eval "average(a/x, b/y, weights=[0.7, 0.3])" --data test.jsonl --json
hubcli eval hf:org/repo --data test.tsv --limit 500 --seed 1""",
)
@click.argument("expr")
@click.option("--data", multiple=True, metavar="FILE", help="Rows: CSV, TSV, JSONL or Parquet; may be given again.")
@click.option("--recipe", metavar="RECIPE", help="A training recipe whose data is read, instead of --data.")
@click.option(
    "--part", type=click.Choice(PARTS), default="test", show_default=True, help="Which part of the recipe's data."
)
@click.option("--dataset", metavar="NAME", help="What the data is called in what is kept; default: by recipe or file.")
@click.option(
    "--column", "columns_", multiple=True, metavar="NAME=COLUMN", help="Where the task finds NAME: text=review."
)
@click.option(
    "--format", type=click.Choice(["csv", "tsv", "jsonl", "parquet"]), help="Of the files; default: by suffix."
)
@click.option(
    "--label-map", "map_", multiple=True, metavar="VALUE=LABEL", help="A value of the label column as a label."
)
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="Take N rows, chosen by --seed; nothing is kept then."
)
@click.option("--seed", type=click.IntRange(0), help="Of the intervals and of --limit; default: the recipe's, or 0.")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Rows a forward pass.")
@click.option("--max-length", type=click.IntRange(1), help="Tokens a row; default: the recipe's, or up to 512.")
@click.option(
    "--max-answer", type=click.IntRange(1), help="Tokens an answer that is generated; default: the recipe's, or 64."
)
@click.option(
    "--exact-match/--no-exact-match", default=None, help="Generate answers and compare; default: as the task does."
)
@click.option("--task", type=click.Choice(tuple(COLUMNS)), help="For an adapter that does not say what it is for.")
@click.option("--dtype", help="Of the base: float32, bfloat16, float16; default: as stored.")
@click.option("--device", help="cpu, cuda, cuda:1, mps; default: cpu.")
@click.option("--quantize", metavar="KIND", help="nf4 loads the base in 4 bit; needs the extra qlora.")
@click.option(
    "--allow-base-mismatch", is_flag=True, help="Go on although the base is not the one the adapter was made for."
)
@click.option("--write/--no-write", default=True, show_default=True, help="Keep the figures with the adapter.")
def eval_(
    out: Output, expr: str, data: tuple[str, ...], columns_: tuple[str, ...], map_: tuple[str, ...], **options: Any
) -> None:
    """Measure an adapter or a composition on labelled data.

    EXPR is a ref, or blocks of refs; a Parallel is measured child by child. The task decides the figures: accuracy, F1 and MCC;
    F1 over spans, or over words where tags spell none; perplexity; exact match. Each has a 95 % interval: Wilson's for shares
    of rows, else a bootstrap over rows.
    Figures of a single ref are kept: an installed adapter's in its record, where 'hubcli info' shows them, a folder's in
    its manifest.json, or in a metrics.json beside its files. Needs the extra train.
    """
    report = api.eval(
        expr,
        data,
        columns=_pairs("--column", columns_),
        label_map=_pairs("--label-map", map_),
        warn=out.warn,
        note=out.note,
        **options,
    )
    out.data(report, _lines(report))
    if report["written"] is not None:
        out.note(f"written to {report['written']['path']}")


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        key, sign, value = one.partition("=")
        if not sign or not key or not value or key in found:
            what = "twice" if key in found else one
            raise UsageError(f"{option}: expected NAME=VALUE, each NAME once, found {what}")
        found[key] = value
    return found


def _lines(report: dict[str, Any]) -> list[str]:
    data = report["data"]
    lines = [f"{data['name']}, {data['split']}: {data['rows']:,} rows, sha256 {data['sha256'][:12]}"]
    for result in report["results"]:
        rows = [(f["name"], _number(f["value"]), _between(f["interval"]), f["n"]) for f in result["figures"]]
        lines += ["", f"{result['expression']} ({report['task']})"]
        lines += columns(rows, ("METRIC", "VALUE", "95 % INTERVAL", "N"))
    return lines


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"


def _between(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"{_number(interval[0])} to {_number(interval[1])}"
