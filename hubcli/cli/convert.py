"""convert: an adapter's folder in another format."""

from __future__ import annotations

from typing import Any

import click

from hubcli import api
from hubcli.cli.common import Output, command
from hubcli.sizes import many, size

FORMATS = ("peft", "adapterhub", "hubcli")


@command(
    writes=True,
    examples="""hubcli convert ./old-adapter --to peft --out new-adapter
hubcli convert ./adapterhub-folder --to hubcli --out mine --base bert-base-uncased
hubcli convert hf:org/repo --to adapterhub --out theirs
hubcli convert ./folder-with-bin --to adapterhub --out safe
hubcli convert ./with-head --to adapterhub --out bare --head drop""",
)
@click.argument("src")
@click.option("--to", type=click.Choice(FORMATS), required=True, help="Whose files to write.")
@click.option("--out", "out_folder", type=click.Path(), required=True, metavar="DIR", help="The folder to write.")
@click.option("--base", metavar="FOLDER_OR_ID", help="The base, where the files name none; only its config is read.")
@click.option(
    "--head", type=click.Choice(["keep", "drop"]), default="keep", show_default=True,
    help="Leave out a head that the format can't hold.",
)  # fmt: skip
@click.option(
    "--child", "children", type=click.Path(), multiple=True, metavar="DIR",
    help="Of a fusion: the folder of an adapter that it was trained over, where it does not lie beside it.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace what is in the folder.")
def convert(out: Output, src: str, **options: Any) -> None:
    """Write an adapter, or a fusion, as another library's folder.

    SRC is a folder of any of the formats, also with pickled weights (.bin), or a ref. What goes in comes out: keys, shapes and
    values to the bit. hubcli's own format keeps every word of the files that an adapter came in, so that the way back is
    complete; what another format has no word for is named. With the format that SRC has, pickled weights become safetensors.
    """
    target = options.pop("out_folder")
    progress = not (out.quiet or out.json)
    report = api.convert(src, out=target, progress=progress, warn=out.warn, **options)
    held = f"{many(len(report['files']), 'file')}, {size(sum(file['size'] for file in report['files']))}"
    verb = "would write" if options["dry_run"] else "wrote"
    what = f"{verb} {report['method']} from {report['from']} as {report['to']} ({held})"
    out.data(report, [what, f"  in {report['path']}"])
    for note in report["notes"]:
        out.note(f"note: {note}")
