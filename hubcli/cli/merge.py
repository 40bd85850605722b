"""merge: one adapter of several, on the command line."""

from __future__ import annotations

from typing import Any

import click

from hubcli import api
from hubcli.cli.common import Output, command
from hubcli.merge_types import HOWS, SIGNS

FORMATS = ("peft", "adapterhub", "hubcli")


@command(
    writes=True,
    examples="""hubcli merge "average(a/x, b/y, weights=[0.7, 0.3])" --out ./merged
hubcli merge "stack(a/x, b/y)" --out ./merged --how svd --energy 0.95
hubcli merge "average(a/x, b/y)" --out ./merged --how dare_ties --density 0.5 --seed 7 --dry-run
hubcli run ./merged "a gripping film"
""",
)
@click.argument("expr")
@click.option(
    "--out", "folder", required=True, metavar="DIR", help="The folder to write; it appears whole or not at all."
)
@click.option(
    "--how", type=click.Choice(HOWS), help="Default: exact; where that is impossible, an error says what can be done."
)
@click.option("--rank", type=click.IntRange(1), metavar="N", help="svd: the most ranks that a module keeps.")
@click.option("--energy", type=float, metavar="SHARE", help="svd: the share of the squares to keep, e.g. 0.95.")
@click.option("--density", type=float, metavar="SHARE", help="ties, dare, magnitude_prune: the share of numbers kept.")
@click.option("--majority-sign", type=click.Choice(SIGNS), help="ties: how signs are elected; default: total.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="dare: of its random numbers; default: 0.")
@click.option("--head", metavar="REF", help="Whose head is kept; default: what answers under EXPR.")
@click.option(
    "--format", "format", type=click.Choice(FORMATS), help="Default: peft's, or hubcli's own where it must be."
)
@click.option("--force", is_flag=True, help="Replace DIR although it is not empty.")
@click.option(
    "--allow-base-mismatch", is_flag=True, help="Merge although the base is not the one an adapter was made for."
)
def merge(out: Output, expr: str, folder: str, **options: Any) -> None:
    """Make one adapter of several.

    EXPR is made of stack(…) and average(…), as for run; what is not installed is installed first, and the base is loaded.
    LoRAs of any ranks, biases, prefixes in a stack and bottlenecks in an average merge exactly; one adapter of weight 1 stays
    what it is. When --how says so, the sum (or one adapter) is cut by SVD or pruned (TIES, DARE), and the relative error of
    the change of the weights, ‖merged − exact‖ / ‖exact‖, is stated. The head is the one that answers under EXPR.
    """
    report = api.merge(expr, folder, warn=out.warn, **options)
    out.data(report, _lines(report))


def _lines(report: dict[str, Any]) -> list[str]:
    rank, error, head = report["rank"], report["error"], report["head"]
    lines = [f"{part['weight']:g} × {part['name']}" for part in report["of"]]
    ranks = "" if rank is None else f", rank {rank['min']}" + (f"–{rank['max']}" if rank["max"] > rank["min"] else "")
    lines.append(f"{report['method']}, {report['how']}: {report['sites']} modules{ranks}")
    if error is not None and error["overall"] is not None and report["how"] != "identity":
        worst = error["largest"]
        at = f" (largest {worst['error']:.3g} at {worst['site']})" if worst and worst["error"] else ""
        lines.append(f"relative error {error['overall']:.3g}{at}")
    if head["of"]:
        lost = f"; not those of {', '.join(head['left_out'])}" if head["left_out"] else ""
        lines.append(f"head {head['how']}: {', '.join(head['of'])}{lost}")
    lines += report["notes"]
    done = "wrote" if report["written"] else "would write"
    return [*lines, f"{done} {report['path']} ({report['format']})"]
