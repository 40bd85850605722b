"""A small server that speaks the Hugging Face Hub's HTTP: `hubcli hub serve FOLDER`. Needs the extra `server`.

Layers, arrows down: `run` (the socket) → `app` (routes) → `listing`, `info`, `tree`, `files` (what is read),
`repo_routes`, `commit_routes`, `ref_routes`, `lfs_routes`, `discussion_routes` (what is changed) → `hub`, `access`,
`bodies`, `replies` → `importer`, `commit_body`, `ndjson` → `whole`, `writing`, `pulls`, `limits`, `contents`,
`sweep`, `uploads` (changes of the storage, no HTTP) → `repos`, `repo` (the storage) → `changes`, `discussions`,
`objects`, `card`, `names` (values), `disk`, `crash`, `faults`.

Three kinds of repos live in a served folder:

* *plain* ones, a person's own folders: `FOLDER/<org>/<name>/` or `FOLDER/models/<org>/<name>/` for models,
  `FOLDER/datasets/<org>/<name>/` for datasets. On every start what changed in them becomes a commit on main; nothing is
  ever written into them. A file `.private` or `.gated` in one closes the repo.
* *imported* ones, made with `import_folder`, with branches and tags; whoever has the token changes them over HTTP, too.
* those made over HTTP, by whoever has the token.

All are kept as commits that never change, below `FOLDER/.hub/` (see `repos`): what was served once under a commit id
is served for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from hubcli.errors import MissingExtraError
from hubcli.server.importer import import_folder
from hubcli.server.limits import Limits

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["Limits", "create_app", "import_folder", "serve"]


def create_app(
    folder: Path,
    token: str | None = None,
    *,
    read_token: str | None = None,
    read_only: bool = False,
    limits: Limits | None = None,
    page_size: int = 1000,
) -> ASGIApp:
    """The server of a folder as an ASGI app, see `hubcli.server.app`; MissingExtraError without the extra."""
    _check_extra()
    from hubcli.server import app

    return app.create_app(folder, token, read_token=read_token, read_only=read_only, limits=limits, page_size=page_size)


def serve(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int,
    token: str | None = None,
    read_token: str | None = None,
    read_only: bool = False,
    limits: Limits | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve a folder until interrupted, see `hubcli.server.run`; MissingExtraError without the extra."""
    _check_extra()
    from hubcli.server import run

    app = create_app(folder, token, read_token=read_token, read_only=read_only, limits=limits)
    run.serve(app, host=host, port=port, ready=ready)


def _check_extra() -> None:
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"the hub server needs {' and '.join(missing)}, not installed here", hint="pip install 'hubcli[server]'"
        )
