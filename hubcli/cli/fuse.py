"""fuse: a composition folded into its base, on the command line."""

from __future__ import annotations

from typing import Any

import click

from hubcli import api
from hubcli.cli.common import Output, command
from hubcli.sizes import size


@command(
    writes=True,
    examples="""hubcli fuse sentiment/bert-lora --out ./sentiment
hubcli fuse "average(a/x, b/y, weights=[0.7, 0.3])" --out ./mixed --dtype bfloat16
hubcli fuse acme/qlora --out ./folded --quantize nf4 --requantize nf4
python -c "from transformers import pipeline; print(pipeline('text-classification', './sentiment')('a gripping film'))"
""",
)
@click.argument("expr")
@click.option(
    "--out", "folder", required=True, metavar="DIR", help="The folder to write; it appears whole or not at all."
)
@click.option("--dtype", help="Of the base and of what is written: float32, bfloat16, float16; default: as stored.")
@click.option("--device", help="Where to fold: cpu, cuda, cuda:1, mps; default: cpu.")
@click.option("--quantize", metavar="KIND", help="nf4 folds into the base as 4 bit leaves it; needs the extra qlora.")
@click.option("--requantize", metavar="KIND", help="nf4 writes linear modules in 4 bit; default: full precision.")
@click.option("--max-shard-size", default="5GB", show_default=True, metavar="SIZE", help="Of one weights file.")
@click.option("--force", is_flag=True, help="Replace DIR although it is not empty.")
@click.option(
    "--allow-base-mismatch", is_flag=True, help="Fold although the base is not the one the adapter was made for."
)
def fuse(out: Output, expr: str, folder: str, **options: Any) -> None:
    """Fold an adapter or a composition into its base: an ordinary transformers model.

    What is written loads with plain from_pretrained, without hubcli, and gives the logits of EXPR; a head that an adapter
    replaces is folded in with its labels. Sums are made in float32 and rounded once. What is no weight (bottlenecks,
    prefixes, cuts of a batch or a text, learned mixes, AdapterHub's heads) is refused by name: 'hubcli export' writes those.
    """
    report = api.fuse(expr, folder, warn=out.warn, note=out.note, **options)
    out.data(report, _lines(report))


def _lines(report: dict[str, Any]) -> list[str]:
    lines = [f"{report['expression']}: folded into {len(report['modules'])} modules of {report['base'] or 'its base'}"]
    if report["heads"]:
        labels = f" ({', '.join(report['labels'])})" if report["labels"] else ""
        lines.append(f"head: {', '.join(report['heads'])}{labels}")
    if report["rounding"]:
        lines.append(f"rounded to {report['dtype']}: no weight by more than {report['rounding']:.2g}")
    quantization = report["quantization"]
    if quantization is not None and quantization["error"] is not None:
        lines.append(f"in {quantization['method']}: no weight by more than {quantization['error']:.2g}")
    verb = "wrote" if report["written"] else "would write"
    whole = f", {size(sum(file['size'] for file in report['files']))}" if report["files"] else ""
    return [*lines, f"{verb} {report['path']} ({report['architecture']}, {report['dtype']}{whole})"]
