"""mirror."""

from __future__ import annotations

from typing import Any

import click

from hubcli import api
from hubcli.cli.common import Output, command, failures
from hubcli.sizes import entries, many, size


@command(
    writes=True,
    examples="""hubcli mirror ./mirror sentiment/bert-lora reviews/bert-fusion
hubcli mirror ./mirror --all --index acme
hubcli mirror ./mirror sentiment/bert-lora --prune
hubcli index add mirror ./mirror""",
)
@click.argument("folder", type=click.Path())
@click.argument("refs", nargs=-1, metavar="[REF]...")
@click.option("--all", is_flag=True, help="Every release of every entry.")
@click.option("--index", metavar="NAME", help="Take them from this index alone.")
@click.option("--prune", is_flag=True, help="Remove what is not asked for any more.")
def mirror(out: Output, folder: str, refs: tuple[str, ...], **options: Any) -> int:
    """Copy entries and all their files into FOLDER, for machines without a network.

    FOLDER is an index: add it by its path, or put it behind any web server. Compositions and fusions bring their parts.
    Run again, it fetches what is new, hashes what is there, and takes over what was yanked, deprecated or quarantined since.
    While it runs, and if it is killed, FOLDER serves the state before. Bases are no part of it.
    """
    report = api.mirror(folder, *refs, progress=not (out.quiet or out.json), warn=out.warn, **options)
    out.data({k: v for k, v in report.items() if k != "exit_code"}, _lines(report, options["dry_run"]))
    return failures(report)


def _lines(report: dict[str, Any], dry_run: bool) -> list[str]:
    new = "would mirror" if dry_run else "mirrored"
    lines = [
        f"{new if row['changed'] else 'there (verified)'}: {row['name']} {row['version']} "
        f"({many(row['files'], 'file')}, {size(row['bytes'])}{', yanked' if row['yanked'] else ''})"
        for row in report["mirrored"]
    ]
    lines += [f"refreshed: {row['name']} {row['version']}: {row['what']}" for row in report["refreshed"]]
    lines += [f"{'would remove' if dry_run else 'removed'}: {what}" for what in report["removed"]]
    lines += [f"left out: {row['ref']}: {row['reason']}" for row in report["left_out"]]
    lines += [f"note: {note}" for note in report["notes"]]
    held = f"{entries(report['entries'])}, {many(report['files'], 'file')}, {size(report['bytes'])}"
    return [*lines, f"{report['out']}: {held}; {size(report['fetched'])} fetched"]
