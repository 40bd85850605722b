"""index import."""

from __future__ import annotations

from typing import Any

import click

from hubcli import api
from hubcli.api.importing import SOURCES
from hubcli.cli.common import Output, command
from hubcli.sizes import entries, many


@command(
    name="import",
    writes=True,
    network=False,
    examples="""hubcli index import adapterhub ./Hub --out ./our-index --dry-run
hubcli index import adapterhub ./Hub/adapters --out ./our-index""",
)
@click.argument("source", type=click.Choice(SOURCES))
@click.argument("folder", type=click.Path(file_okay=False, exists=True))
@click.option(
    "--out", "target", required=True, type=click.Path(), help="The index folder: a new one, or one to add to."
)
def import_(out: Output, source: str, folder: str, target: str, **options: Any) -> None:
    """List in an index folder what another project's index lists: adapterhub, a checkout of AdapterHub's cards.

    Their adapters are archives on other servers: search finds them and info says where they are, but they are not installed. What
    can't be listed is named with its reason; of what the index folder has already nothing changes.
    """
    report = api.index_import(source, folder, target, **options)
    out.data(report, [*_lines(report), *_summary(report, target, **options)])


def _lines(report: dict[str, Any]) -> list[str]:
    """What was left out, and what was decided."""
    left = [
        f"left out: {row['card']}{' version ' + row['version'] if row['version'] else ''}: {row['reason']}"
        for row in report["left_out"]
    ]
    noted = [
        f"note: {row['note']}"
        + (f" ({many(len(row['cards']), 'card')}, e.g. {row['cards'][0]})" if row["cards"] else "")
        for row in report["notes"]
    ]
    return [*left, *noted]


def _summary(report: dict[str, Any], target: str, dry_run: bool) -> list[str]:
    verb = "would write" if dry_run else "wrote"
    counted = f"{many(len(report['imported']), 'release')} of {entries(report['entries'])}, {len(report['left_out'])} left out"
    return [f"{counted}; {verb} {report['written']} to {target}"]
