"""yank, deprecate: for those who keep an index."""

from __future__ import annotations

from typing import Any

import click

from hubcli import api
from hubcli.cli.common import Output, command

Json = dict[str, Any]
INDEX = click.option(
    "--index",
    metavar="WHERE",
    help="A folder (edited in place), a configured index by its name, or hf:datasets/ORG/NAME (a pull request is made). "
    "Default: the one configured index that can be written.",
)


@command(
    writes=True,
    examples="""hubcli yank acme/films@1.2.0 --reason 'trained on the test set' --index ./our-index
hubcli yank acme/films@1.2.0 --reason 'wrong labels' --replacement acme/films@1.2.1 --index hf:datasets/acme/index
hubcli yank acme/films@1.2.0 --undo --index ./our-index""",
)
@click.argument("ref", metavar="GROUP/NAME@VERSION")
@click.option("--reason", metavar="TEXT", help="Why, in one line; everyone who uses the release is shown it.")
@click.option("--replacement", metavar="REF", help="What to use instead: a name or a release of the same index.")
@click.option("--undo", is_flag=True, help="Take the yank back.")
@INDEX
def yank(out: Output, ref: str, **options: Any) -> None:
    """Withdraw one release of an index: nobody gets it who does not ask for it by its version.

    \b
    With 1.0.0, 1.1.0, 1.2.0 and 2.0.0-rc.1 in the index and 1.2.0 yanked:
      acme/films             1.1.0
      acme/films@^1.0        1.1.0
      acme/films@1.2         refused (exit 6): all that fits is yanked
      acme/films@1.2.0       1.2.0, with a warning
      sync, 1.2.0 locked     1.2.0, with a warning
      lock --upgrade         1.1.0
      installed 1.2.0        stays, and runs, with a warning

    The release and its files stay where they are: what is locked or installed goes on to work. Whoever has it installed is told
    by run, list, info, outdated and upgrade, once their copy of the index has the yank (hubcli index update). To stop a release
    that does harm for everyone: hubcli deprecate REF --status quarantined.
    """
    report = api.yank(ref, **options)
    (release,) = report["releases"]
    state = _yanked(release) if release["yanked"] else "is not yanked"
    _say(out, report, [f"{report['name']} {release['version']} {state}"], options["dry_run"])


def _yanked(release: Json) -> str:
    told = release["yanked"]
    instead = f" (use {told['replacement']})" if told.get("replacement") else ""
    return f"is yanked since {told['date'][:10]}: {told['reason']}{instead}"


@command(
    writes=True,
    examples="""hubcli deprecate acme/films --reason 'acme/reviews does it better' --index ./our-index
hubcli deprecate acme/films@1.0.0 --status quarantined --reason 'poisoned training data' --index ./our-index
hubcli deprecate acme/films --status active --index ./our-index""",
)
@click.argument("ref", metavar="GROUP/NAME[@VERSION]")
@click.option("--reason", metavar="TEXT", help="Why, in one line; everyone who uses it is shown it.")
@click.option(
    "--status",
    type=click.Choice(["deprecated", "archived", "quarantined", "active"]),
    default="deprecated",
    show_default=True,
    help="What it is from now on.",
)
@INDEX
def deprecate(out: Output, ref: str, **options: Any) -> None:
    """Say of an entry, or of one release, that it should no longer be used.

    \b
      status        install, run, lock              from a lock
      deprecated    works, with a warning           works, with a warning
      archived      works, with a warning           works, with a warning
      quarantined   refused (exit 6)                refused (exit 6)
      active        works                           works

    Without a version all releases that there are get the status; later ones do not. An installed copy is treated as the table
    says from when its machine's copy of the index has the status (hubcli index update): what is quarantined stays on disk until
    it is uninstalled, and nothing loads it. Where the index is configured no more, nobody is told.
    """
    report = api.deprecate(ref, **options)
    lines = [
        f"{report['name']} {r['version']} is {r['status']}" + (f": {r['status_reason']}" if r["status_reason"] else "")
        for r in report["releases"]
    ]
    _say(out, report, lines, options["dry_run"])


def _say(out: Output, report: Json, lines: list[str], dry_run: bool) -> None:
    index = report["index"]
    place = index["pull_request"] or index["file"] or index["where"]
    done = "would be written" if dry_run else "written" if report["changed"] else "nothing to change"
    waits = index["pull_request"] and not report["changed"]
    lines = [*lines, f"{'waits in' if waits else f'{done}:'} {place}"]
    if index["next"] and index["file"] and not dry_run:
        lines.append(f"next: {index['next']}")
    out.data(report, lines)
