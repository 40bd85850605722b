"""hub serve."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from hubcli.cli.common import Output, command


@click.group()
def hub() -> None:
    """Serve a folder as a hub."""


class Size(click.ParamType):  # type: ignore[type-arg]  # generic in new versions of Click only
    """A number of bytes: 300000, 500MB, 2.5GB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number, or Click's own error."""
        from hubcli.sizes import count

        try:
            return value if isinstance(value, int) else count(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@command(
    name="serve",
    network=False,
    examples="""hubcli hub serve ./hub --port 8080
HF_ENDPOINT=http://127.0.0.1:8080 hubcli install hf:org/repo
hubcli hub serve ./hub --port 8080 --token "$HUB_TOKEN" --max-repo-size 20GB
HF_ENDPOINT=http://127.0.0.1:8080 HF_TOKEN="$HUB_TOKEN" hf upload org/repo ./adapter""",
)
@click.argument("folder", type=click.Path(file_okay=False, exists=True))
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="TCP port; 0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--token",
    envvar="HUBCLI_HUB_TOKEN",
    help="Token that opens private repositories and may write (also HUBCLI_HUB_TOKEN). Without it nobody writes.",
)
@click.option(
    "--read-token",
    envvar="HUBCLI_HUB_READ_TOKEN",
    help="Another token, that opens private repositories and may not write (also HUBCLI_HUB_READ_TOKEN).",
)
@click.option("--read-only", is_flag=True, help="Nobody writes, with any token.")
@click.option("--max-file-size", type=Size(), default="10GB", show_default=True, help="Largest file that is taken in.")
@click.option(
    "--max-repo-size", type=Size(), default="100GB", show_default=True, help="Largest repository, all commits together."
)
@click.option(
    "--lfs-above",
    type=Size(),
    default="512MB",
    show_default=True,
    help="Larger files are sent by LFS, for which a client that has hf_xet needs HF_HUB_DISABLE_XET=1.",
)
def serve(
    out: Output,
    folder: str,
    port: int,
    host: str,
    token: str | None,
    read_token: str | None,
    read_only: bool,
    max_file_size: int,
    max_repo_size: int,
    lfs_above: int,
) -> None:
    """Serve FOLDER as a Hugging-Face-Hub-compatible server, until Ctrl-C; with a token, also for pushing to it."""
    from hubcli.server import Limits
    from hubcli.server import serve as serve_folder

    limits = Limits(max_file_size, max_repo_size, lfs_above)
    writable = token is not None and not read_only

    def ready(url: str) -> None:
        how = "reading and writing" if writable else "reading only"
        out.data({"url": url, "writable": writable}, [f"serving {folder} at {url}, {how}"])

    # Ctrl-C is how a server is stopped: no error
    with contextlib.suppress(KeyboardInterrupt):
        serve_folder(
            Path(folder),
            host=host,
            port=port,
            token=token,
            read_token=read_token,
            read_only=read_only,
            limits=limits,
            ready=ready,
        )


hub.add_command(serve)
