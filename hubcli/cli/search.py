"""search."""

from __future__ import annotations

from typing import Any

import click

from hubcli import api
from hubcli.cli.common import Output, command
from hubcli.cli.text import columns


@command(
    examples="""hubcli search sentiment
hubcli search "movie reviews" --method lora --language en
hubcli search bert --task text-classification --limit 5 --json"""
)
@click.argument("query", nargs=-1, required=True)
@click.option("--task", help="Only this task, e.g. text-classification.")
@click.option("--method", help="Only this PEFT method, e.g. lora.")
@click.option("--base", help="Only adapters for this base model's id.")
@click.option("--language", help="Only this language (ISO 639 code).")
@click.option("--license", "license", help="Only this licence id, e.g. apache-2.0.")
@click.option("--limit", type=click.IntRange(1, 1000), default=10, show_default=True, help="At most so many.")
def search(out: Output, query: tuple[str, ...], **filters: Any) -> None:
    """Search the indexes by words, best first, offline. No hit is no error."""
    report = api.search(" ".join(query), warn=out.warn, note=out.note, **filters)
    rows = [
        (
            f"hubcli {_verb(hit)} {hit['name']}@{hit['version']}",
            hit["method"] or "-",
            hit["task"] or "-",
            hit["description"],
        )
        for hit in report["hits"]
    ]
    out.data(report, columns(rows, ("INSTALL", "METHOD", "TASK", "DESCRIPTION")) if rows else [])
    if not rows:
        out.note("no hit; 'hubcli index list' shows where was searched")


def _verb(hit: dict[str, Any]) -> str:
    """What can be done with a hit: an archive elsewhere is listed, and `info` says where it is."""
    return "install" if hit["installable"] else "info"
