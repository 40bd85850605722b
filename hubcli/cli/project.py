"""lock and sync: adapters.toml → adapters.lock → the store."""

from __future__ import annotations

from typing import Any

import click

from hubcli import api
from hubcli.cli.adapters import NO_WAIT, _finish, _installed_lines, _progress
from hubcli.cli.common import Output, command

PROJECT = click.option(
    "--project",
    type=click.Path(file_okay=False, exists=True),
    default=".",
    show_default=True,
    help="Folder of adapters.toml.",
)


@command(writes=True, examples="hubcli lock\nhubcli lock --check\nhubcli lock --upgrade\nhubcli lock --convert-bin")
@PROJECT
@click.option("--check", is_flag=True, help="Write nothing; exit 5 when adapters.lock is missing or stale.")
@click.option("--upgrade", is_flag=True, help="Take the newest versions allowed instead of those locked.")
@click.option(
    "--convert-bin", is_flag=True, help="Take pickled weights (.bin) of a hub repository that has no others, converted."
)
def lock(out: Output, **options: Any) -> None:
    """Pin what adapters.toml asks for in adapters.lock: versions, commits, sizes, hashes."""
    report = api.lock(warn=out.warn, **options)
    verb = "wrote" if report["changed"] and not (options["check"] or options["dry_run"]) else "would write"
    state = f"{verb} {report['path']}" if report["changed"] else f"{report['path']} is up to date"
    out.data(report, [state, *(f"  {a['name']} {a['version']}" for a in report["adapters"])])


@command(writes=True, examples="hubcli sync\nhubcli sync --frozen")
@PROJECT
@click.option("--frozen", is_flag=True, help="Don't compare adapters.lock with adapters.toml.")
@NO_WAIT
def sync(out: Output, dry_run: bool, **options: Any) -> int:
    """Install exactly what adapters.lock pins; exit 5 when it is missing or stale."""
    report = api.sync(dry_run=dry_run, progress=_progress(out), warn=out.warn, **options)
    lines = _installed_lines(report, dry_run=dry_run)
    return _finish(out, report, lines or ([] if report["failed"] else ["nothing is locked"]))
