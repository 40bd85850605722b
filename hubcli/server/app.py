"""The ASGI application: which path is answered by what."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hubcli.errors import BusyError, HubcliError, UsageError
from hubcli.server import (
    commit_routes,
    discussion_routes,
    files,
    info,
    lfs_routes,
    listing,
    ref_routes,
    repo_routes,
    tree,
)
from hubcli.server.access import Access
from hubcli.server.bodies import with_json
from hubcli.server.faults import HubFault, RepoExists
from hubcli.server.hub import Hub
from hubcli.server.importer import snapshot_plain
from hubcli.server.limits import Limits
from hubcli.server.replies import busy_reply, damage_reply, fault_reply, gone_reply, http_reply, log, text_line
from hubcli.server.repos import RepoStore
from hubcli.server.sweep import sweep
from hubcli.server.uploads import tidy


class _Types(Convertor[str]):
    regex = "models|datasets"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _RepoId(_Types):
    regex = "[^/]+(?:/[^/]+)?"


class _Revision(_Types):
    # the client codes every '/' of a revision; in a link that a person copies, they stand as they are
    regex = "refs/(?:pr|heads|tags)/[^/]+|[^/]+"


register_url_convertor("hub_types", _Types())
register_url_convertor("hub_revision", _Revision())
register_url_convertor("hub_repo", _RepoId())


def create_app(
    folder: Path,
    token: str | None = None,
    *,
    read_token: str | None = None,
    read_only: bool = False,
    limits: Limits | None = None,
    page_size: int = 1000,
) -> ASGIApp:
    """The hub server of a folder as an ASGI app. Commits what changed in the folder's plain repos first.

    `token` opens private and gated repos and, without `read_only`, changes all; `read_token` opens them. `limits` are
    on what is pushed. `page_size` is the most items a page of a list has.
    Raises NotFoundError if there is no such folder, UsageError for a token that no header can carry.
    """
    if page_size < 1:
        raise UsageError(f"page_size: expected at least 1, found {page_size}")
    access, store = Access(token, read_token, read_only=read_only), RepoStore(Path(folder))
    tidy(store)
    try:
        sweep(store)
    except HubcliError as error:
        log.warning("kept what no commit names, for not every commit can be read: %s", text_line(str(error)))
    for skipped in snapshot_plain(store):
        log.warning("not served as it is now: %s", text_line(str(skipped.error)))
    replies = {
        RepoExists: repo_routes.exists_reply,
        HubFault: fault_reply,
        BusyError: busy_reply,
        HubcliError: damage_reply,
        HTTPException: http_reply,
        ClientDisconnect: gone_reply,
        Exception: damage_reply,
    }
    app = Starlette(routes=_routes(), exception_handlers=replies)
    app.router.redirect_slashes = False
    app.state.hub = Hub(store, access, limits or Limits(), page_size)
    return _PathAsSent(app)


class _PathAsSent:
    """Shows routes the path as it was sent: decoded, a `%2F` in a revision would look like the end of it."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            sent = scope.get("raw_path") or quote(scope["path"]).encode()  # ASGI servers may leave it out
            scope = {**scope, "path": sent.decode("latin-1")}
        await self.app(scope, receive, send)


def _routes() -> list[Route]:
    repo = "/api/{types:hub_types}/{repo:hub_repo}"
    return [
        Route("/api/whoami-v2", repo_routes.whoami),
        Route("/api/{types:hub_types}", listing.listing),
        *_writes(repo),
        *_discussions(f"{repo}/discussions"),
        Route(f"{repo}/revision/{{revision:hub_revision}}", info.info),
        Route(f"{repo}/tree/{{revision:hub_revision}}", tree.tree),
        Route(f"{repo}/tree/{{revision:hub_revision}}/{{path:path}}", tree.tree),
        Route(f"{repo}/refs", info.refs),
        Route(f"{repo}/commits/{{revision:hub_revision}}", info.commits),
        Route(f"{repo}/paths-info/{{revision:hub_revision}}", tree.paths_info, methods=["POST"]),
        Route(f"{repo}/auth-check", repo_routes.auth_check),
        Route(f"{repo}/auth-check/write", repo_routes.write_check),
        Route(repo, info.info),
        Route("/{types:hub_types}/{repo:hub_repo}/resolve/{revision:hub_revision}/{path:path}", files.resolve),
        Route("/{repo:hub_repo}/resolve/{revision:hub_revision}/{path:path}", files.resolve),
    ]


def _writes(repo: str) -> list[Route]:
    batch = with_json(lfs_routes.batch)
    return [
        Route("/api/repos/create", with_json(repo_routes.create), methods=["POST"]),
        Route("/api/repos/delete", with_json(repo_routes.delete), methods=["DELETE"]),
        Route("/api/repos/move", with_json(repo_routes.move), methods=["POST"]),
        Route("/api/validate-yaml", with_json(commit_routes.validate_yaml), methods=["POST"]),
        Route(f"{repo}/settings", with_json(repo_routes.settings), methods=["PUT"]),
        Route(f"{repo}/preupload/{{revision:hub_revision}}", with_json(commit_routes.preupload), methods=["POST"]),
        Route(f"{repo}/commit/{{revision:hub_revision}}", commit_routes.commit, methods=["POST"]),
        Route(f"{repo}/branch/{{name:path}}", with_json(ref_routes.add_branch), methods=["POST"]),
        Route(f"{repo}/branch/{{name:path}}", ref_routes.drop_branch, methods=["DELETE"]),
        Route(f"{repo}/tag/{{name:path}}", with_json(ref_routes.add_tag), methods=["POST"]),
        Route(f"{repo}/tag/{{name:path}}", ref_routes.drop_tag, methods=["DELETE"]),
        Route("/{types:hub_types}/{repo:hub_repo}.git/info/lfs/objects/batch", batch, methods=["POST"]),
        Route("/{repo:hub_repo}.git/info/lfs/objects/batch", batch, methods=["POST"]),
        Route("/lfs/{types:hub_types}/{repo:hub_repo}/{oid}", lfs_routes.put, methods=["PUT"]),
        Route(f"{repo}/super-squash/{{revision:hub_revision}}", commit_routes.not_here, methods=["POST"]),
        Route(f"{repo}/lfs-files/duplicate", commit_routes.not_here, methods=["POST"]),
        Route(f"{repo}/xet-write-token/{{revision:hub_revision}}", commit_routes.not_here),
    ]


def _discussions(root: str) -> list[Route]:
    changes = {
        "comment": discussion_routes.comment,
        "title": discussion_routes.rename,
        "status": discussion_routes.set_status,
        "merge": discussion_routes.merge,
    }
    return [
        Route(root, discussion_routes.listing),
        Route(root, with_json(discussion_routes.start), methods=["POST"]),
        Route(f"{root}/{{number}}", discussion_routes.details),
        *(Route(f"{root}/{{number}}/{name}", with_json(view), methods=["POST"]) for name, view in changes.items()),
        Route(f"{root}/{{number}}/comment/{{id}}/{{what}}", commit_routes.not_here, methods=["POST"]),
    ]
