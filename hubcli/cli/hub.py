"""hub serve."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from hubcli.cli.common import Output, command


@click.group()
def hub() -> None:
    """Serve a folder as a hub."""


@command(
    name="serve",
    network=False,
    examples="""hubcli hub serve ./models --port 8080
HF_ENDPOINT=http://127.0.0.1:8080 hubcli install hf:org/repo
hubcli hub serve ./models --port 8080 --token "$HUB_TOKEN" """,
)
@click.argument("folder", type=click.Path(file_okay=False, exists=True))
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="TCP port; 0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--token", envvar="HUBCLI_HUB_TOKEN", help="Token that private repositories ask for (also HUBCLI_HUB_TOKEN)."
)
def serve(out: Output, folder: str, port: int, host: str, token: str | None) -> None:
    """Serve FOLDER as a Hugging-Face-Hub-compatible server, until Ctrl-C."""
    from hubcli.server import serve as serve_folder

    def ready(url: str) -> None:
        out.data({"url": url}, [f"serving {folder} at {url}"])

    # Ctrl-C is how a server is stopped: no error
    with contextlib.suppress(KeyboardInterrupt):
        serve_folder(Path(folder), host=host, port=port, token=token, ready=ready)


hub.add_command(serve)
