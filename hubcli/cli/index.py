"""index list, add, remove, update, check, build, compose, import."""

from __future__ import annotations

from typing import Any

import click

from hubcli import api
from hubcli.cli.common import Output, command
from hubcli.cli.index_import import import_
from hubcli.cli.text import columns
from hubcli.sizes import entries, many


@click.group()
def index() -> None:
    """Manage, build and check indexes: the catalogues that refs are looked up in."""


@command(name="list", examples="hubcli index list")
def list_(out: Output, offline: bool) -> None:
    """List the indexes in the order in which they are asked."""
    report = api.index_list(offline=offline)
    rows = [
        (i["name"], i["url"], ", ".join(i["scopes"]) or "*", str(i["entries"] if i["entries"] is not None else "-"))
        for i in report["indexes"]
    ]
    out.data(report, columns(rows, ("NAME", "URL", "SCOPES", "ENTRIES")))


@command(
    writes=True,
    examples="""hubcli index add acme https://adapters.acme.example/index --token-env ACME_TOKEN --scope 'acme/*'
hubcli index add acme hf:datasets/acme/index --scope 'acme/*'
hubcli index add next hf:datasets/acme/index@next
hubcli index add local ./our-index""",
)
@click.argument("name")
@click.argument("url")
@click.option(
    "--token-env", metavar="VAR", help="Environment variable that holds the token for this index, and for it alone."
)
@click.option(
    "--scope", "scopes", multiple=True, metavar="PATTERN", help="Names that come from this index alone, e.g. 'acme/*'."
)
@click.option(
    "--first", is_flag=True, help="Ask this index before the others (default: after them, before the bundled one)."
)
@click.option("--unseen", is_flag=True, help="Add it without looking whether it can be read.")
def add(out: Output, name: str, url: str, **options: Any) -> None:
    """Add an index: a folder, a static site at an http(s) URL, or a dataset repository of the hub.

    hf:datasets/ORG/NAME is read at the newest commit of main (or of @BRANCH, at @TAG, at @COMMIT) of the hub that
    HF_ENDPOINT names, with the token that huggingface_hub has; with --token-env with that one.

    It is looked at first, and not added if it can't be read or is a folder of something else; --offline adds what is elsewhere
    unseen. A name that is there
    keeps its URL, scopes and token: 'hubcli index remove NAME' comes before another.
    """
    report = api.index_add(name, url, warn=out.warn, **options)
    out.data(report, [f"{'would add' if options['dry_run'] else 'added'} index {name}: {url}"])


@command(writes=True, network=False, examples="hubcli index remove acme")
@click.argument("name")
def remove(out: Output, name: str, **options: Any) -> None:
    """Forget an index. What was installed from it stays."""
    report = api.index_remove(name, **options)
    out.data(report, [f"{'would remove' if options['dry_run'] else 'removed'} index {name}"])


def _news(changed: bool, *, dry_run: bool, **_: Any) -> str:
    return "would ask" if dry_run else "new snapshot" if changed else "up to date"


@command(writes=True, examples="hubcli index update\nhubcli index update acme")
@click.argument("names", nargs=-1)
def update(out: Output, names: tuple[str, ...], **options: Any) -> None:
    """Ask each index whether it has changed, and fetch what is new. One that does not answer stops no other."""
    report = api.index_update(*names, warn=out.warn, **options)
    out.data(
        report,
        [
            f"{i['name']}: {_news(i['changed'], **options)} ({'- entries' if i['entries'] is None else entries(i['entries'])})"
            for i in report["indexes"]
        ],
    )


OWNERSHIP = {
    "none": "owners: not checked (there is no _owners.json)",
    "state": "owners: groups and repositories checked; who proposes was not (--against REV --by USER)",
    "person": "owners: checked (of the index; not of what else lies beside it)",
}


@command(
    network=False,
    examples="""hubcli index check ./our-index
hubcli index check ./our-index --against origin/main --by alice
hubcli index check ./our-index --against ../published/our-index""",
)
@click.argument("folder", type=click.Path(file_okay=False, exists=True))
@click.option(
    "--against",
    metavar="REV|FOLDER",
    help="An older state: a branch, tag or commit of the git checkout that holds FOLDER, or a folder (./NAME). What is"
    " published there must not have changed.",
)
@click.option(
    "--by",
    metavar="USER",
    help="Who proposes what is new since --against: held against the owners in _owners.json there.",
)
def check(out: Output, folder: str, against: str | None, by: str | None) -> int:
    """Check an index folder: every fault of every entry, with file, field, expected and found (exit 4 if there is one).

    What a composition or a fusion requires has to be here in a version that its range allows, or not to be here at all: a
    name of another index is noted, for who installs it needs both.

    With --against also what a change may not do: alter or take away a release (only yanked, status and status_reason
    change) or its files, add a name that is nearly another, or a file that nothing names. With --by also whether USER may
    make it, by _owners.json as it was before: entries of a group are changed by its owners, a new group belongs to who adds
    it. What else lies in the folder (.github, a README) is not looked at, but for a built site (index.json): who reads the
    folder gets its entries, so it has to be built of those beside it, or with --against to be the one that is there.
    """
    report = api.index_check(folder, against=against, by=by)
    lines = [
        ": ".join(filter(None, (f["file"], f["field"], f"expected {f['expected']}, found {f['found']} ({f['id']})")))
        for f in report["faults"]
    ]
    out.data(report, [*lines, f"{entries(report['entries'])}, {many(len(lines), 'fault')}"])
    for note in report["notes"]:
        out.note(note)
    if against is not None:
        out.note(OWNERSHIP[report["ownership"]])
    return 0 if report["ok"] else 4


@command(
    writes=True,
    network=False,
    examples="""hubcli index build ./registry-index --out ./site
hubcli index build ./registry-index --out ./site --hub-endpoint https://hub.acme.example""",
)
@click.argument("folder", type=click.Path(file_okay=False, exists=True))
@click.option(
    "--out",
    "target",
    required=True,
    type=click.Path(file_okay=False),
    help="Folder to write the static site to, outside of FOLDER.",
)
@click.option("--hub-endpoint", help="The hub that the entries' repositories live on.")
@click.option("--name", help="The index's name, for people; default: the folder's.")
def build(out: Output, folder: str, target: str, **options: Any) -> None:
    """Build a static site from an index folder: index.json, entries.jsonl.gz and the files; same input, same bytes."""
    report = api.index_build(folder, target, **options)
    verb = "would write" if options["dry_run"] else "wrote"
    out.data(report, [f"{verb} {target}: {entries(report['entries'])}, snapshot {report['snapshot'][:12]}"])


@command(
    writes=True,
    examples="""hubcli index compose 'average(acme/films, acme/books)' --name acme/reviews --version 1.0.0 \\
    --out ./our-index --description 'Films and books, averaged.' --author 'Acme'
hubcli index compose 'stack(lang/de@~1.2, acme/films)' --name acme/german --version 1.1.0 --out ./our-index""",
)
@click.argument("expr")
@click.option("--name", required=True, metavar="GROUP/NAME", help="What the composition is called.")
@click.option("--version", required=True, help="Its version; one that is there already never changes.")
@click.option("--out", "target", required=True, type=click.Path(file_okay=False), help="The index folder.")
@click.option("--description", help="One line about it; needed for a new entry.")
@click.option("--author", "authors", multiple=True, help="Who made it; needed for a new entry.")
@click.option(
    "--license", default="none", show_default=True, help="Licence of the composition; its parts have their own."
)
def compose(out: Output, expr: str, target: str, **options: Any) -> None:
    """Save a composition as an entry of an index folder, with what it requires.

    A name's range is what stands at it (acme/films@~1.2), else ^ of the version that its index offers now.
    """
    report = api.index_compose(expr, target, warn=out.warn, **options)
    verb = "would write" if options["dry_run"] else "wrote"
    needs = [f"  requires {name} {spec}" for name, spec in report["requires"].items()]
    out.data(
        report, [f"{verb} {report['file']}: {report['name']} {report['version']} = {report['expression']}", *needs]
    )


for _command in (list_, add, remove, update, check, build, compose, import_):
    index.add_command(_command)
