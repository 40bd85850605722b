"""publish: a folder to a repository on a hub and an entry in an index, on the command line."""

from __future__ import annotations

from typing import Any

import click

from hubcli import api
from hubcli.cli.common import Interrupted, Output, command
from hubcli.cli.text import columns
from hubcli.errors import UsageError
from hubcli.progress import for_terminal
from hubcli.sizes import many, size

Json = dict[str, Any]
GOES_ON = "run the same command again: it goes on from what is there, and publishes nothing twice"


@command(
    writes=True,
    examples="""hubcli publish ./runs/films --repo acme/films-lora --name acme/films --version 1.0.0 --license apache-2.0 \\
    --description 'Positive or negative: a film review.' --author 'Acme' --index ./our-index
hubcli publish ./runs/films --repo acme/films-lora --name acme/films --version 1.1.0 --dry-run
hubcli publish ./films --repo acme/films-lora --name acme/films --version 1.1.0 --index hf:datasets/acme/adapters
hubcli publish 'average(acme/films, acme/books)' --name acme/reviews --version 1.0.0 --index ./our-index \\
    --description 'Films and books, averaged.' --author 'Acme'
""",
)
@click.argument("what", metavar="FOLDER|EXPR")
@click.option("--name", required=True, metavar="GROUP/NAME", help="What it is called in the index.")
@click.option("--version", required=True, help="Its version (SemVer); one that is out never changes.")
@click.option("--repo", metavar="ORG/NAME", help="The repository on the hub; made where it is not there.")
@click.option(
    "--index",
    metavar="WHERE",
    help="A folder (in a git checkout: a branch is made), a configured index by its name, or hf:datasets/ORG/NAME (a pull "
    "request is made). Default: the one configured index that can be written.",
)
@click.option("--no-index", is_flag=True, help="Push alone; no index gets an entry.")
@click.option(
    "--by",
    metavar="ACCOUNT",
    help="Who proposes it, as the index's check will name you (on GitHub your login): an owner of the group, or of a new one "
    "the first. Of a pull request on the hub it is the token's account.",
)
@click.option("--license", metavar="ID", help="Its licence, e.g. apache-2.0.")
@click.option("--description", metavar="TEXT", help="One line about it; needed for a new entry.")
@click.option("--author", "authors", metavar="NAME", multiple=True, help="Who made it; needed for a new entry.")
@click.option("--language", metavar="CODE", multiple=True, help="A language that it is for, e.g. en.")
@click.option("--task", help="What it does, e.g. text-classification.")
@click.option(
    "--base", metavar="ID", help="The base's id on a hub, where the adapter was made on a folder of this machine."
)
@click.option(
    "--requires",
    multiple=True,
    metavar="NAME=RANGE",
    help="Of a fusion: an adapter that it works over, e.g. acme/a=^1.0.",
)
@click.option("--recipe", metavar="FILE", help="The recipe whose data its stated figures are checked on.")
@click.option("--data", metavar="FILE", help="Labelled rows that its stated figures are checked on.")
@click.option("--sample", type=click.IntRange(1), metavar="N", help="How many of those rows.")
@click.option("--allow-unreproduced", is_flag=True, help="Publish figures that there are no rows to check on.")
@click.option("--allow-unchecked-base", is_flag=True, help="Publish although the base can't be had and compared.")
@click.option("--private", is_flag=True, help="Make the repository a private one.")
@click.option(
    "--into-existing", is_flag=True, help="Push into a repository that holds a model, or others' files to replace."
)
@click.option("--message", metavar="TEXT", help="First line of the commit; default: Publish GROUP/NAME VERSION.")
def publish(out: Output, what: str, offline: bool, requires: tuple[str, ...], **options: Any) -> None:
    """Publish an adapter, a fusion or a composition.

    FOLDER is checked, gets a card, and is pushed in one commit with the tag vVERSION; every file is read back from the hub and
    compared; then the entry is written to the index. EXPR, a composition of names of indexes, is an entry alone. The token is
    that of huggingface_hub (HF_TOKEN, or hf auth login), the hub that of HF_ENDPOINT. Where it was cut off, at any point, the
    same command goes on; where all is done, it says so.
    """
    shown: list[Json] = []

    def plan(document: Json) -> None:
        shown.append(document)
        for line in _plan(document):
            out.note(line)

    try:
        report = api.publish(
            what,
            requires=_ranges(requires),
            offline=offline or None,
            warn=out.warn,
            say=out.note,
            plan=None if options["dry_run"] else plan,
            progress=for_terminal(),
            **options,
        )
    except KeyboardInterrupt as stop:
        raise Interrupted(
            "interrupted", GOES_ON if shown else "nothing was written: run the same command again"
        ) from stop
    out.data(report, _plan(report["plan"]) if report["plan"] else _lines(report))


def _ranges(given: tuple[str, ...]) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for text in given:
        name, equals, spec = text.partition("=")
        if not equals or not spec:
            raise UsageError(f"--requires: expected NAME=RANGE, found {text!r}", hint="--requires acme/a=^1.0")
        if name in found:
            raise UsageError(f"--requires: {name} is given twice, as {found[name]} and {spec}")
        found[name] = spec
    return found or None


def _plan(plan: Json) -> list[str]:
    """The plan for people, before anything is written."""
    lines = []
    if (repo := plan["repo"]) is not None:
        tag = plan["tag"]
        lines.append(f"repository {repo['url']}" + ("" if repo["exists"] else " (new)"))
        rows = [(f["path"], size(f["size"]), f["state"]) for f in plan["files"]]
        rows += [(path, "", "deleted") for path in plan["deleted"]]
        lines += columns(rows, ("FILE", "SIZE", ""))
        at = f" at {plan['commit'][:12]}" if plan["commit"] else ""
        lines.append(f"tag {tag['name']}{at}" + (" (there)" if tag["exists"] else ""))
    if (index := plan["index"]) is not None:
        found = {"there": "the release is there", "waiting": f"waits in {index['branch'] or index['pull_request']}"}
        target = (index["target"] or found[index["state"]]).replace(f" in {index['where']}, on ", ", on ")
        lines.append(f"index {index['where']}: {target}")
        lines += [f"  writes {', '.join(index['files'])}"] if index["files"] else []
    if (card := plan["card"]) is not None:
        facts = [card["method"], card["base_model"], card["task"], ", ".join(card["language"]), card["license"]]
        lines.append("card: " + " · ".join(fact for fact in facts if fact))
        lines += [f"  {m['name']} {m['value']:g} on {m['dataset']}" for m in card["metrics"]]
    return [*lines, *(note if note.startswith("warning: ") else f"note: {note}" for note in plan["notes"])]


def _lines(report: Json) -> list[str]:
    """What was done, for people."""
    what = f"{report['name']} {report['version']}"
    lines = [f"published {what}" if report["changed"] else f"{what} is already published (verified)"]
    if report["commit"]:
        read = f"{many(len(report['files']), 'file')} read back, all the same"
        lines.append(f"  {report['url']} at {report['commit']}, tag {report['tag']}: {read}")
    if (index := report["index"]) is not None:
        place = (index["branch"] and f"branch {index['branch']}") or index["pull_request"] or "entry"
        lines.append(f"  index {index['where']}: {place}")
        if index["branch"]:
            lines.append(f"  propose it: {index['next']}")
    return lines
