"""The ASGI application: which path is answered by what."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hubcli.errors import HubcliError, UsageError
from hubcli.server import files, info, listing, tree
from hubcli.server.access import Access, Caller
from hubcli.server.faults import HubFault, NotImplementedFault
from hubcli.server.hub import Hub, caller_of, hub_of, repo_of
from hubcli.server.importer import snapshot_plain
from hubcli.server.replies import damage_reply, error_reply, fault_reply, http_reply, log, text_line
from hubcli.server.repos import RepoStore


class _Types(Convertor[str]):
    regex = "models|datasets"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _RepoId(_Types):
    regex = "[^/]+(?:/[^/]+)?"


register_url_convertor("hub_types", _Types())
register_url_convertor("hub_repo", _RepoId())


def create_app(folder: Path, token: str | None = None, *, page_size: int = 1000) -> ASGIApp:
    """The hub server of a folder as an ASGI app. Commits what changed in the folder's plain repos first.

    `token` opens private and gated repos. `page_size` is the most items a page of a list has.
    Raises NotFoundError if there is no such folder, UsageError for a token that no header can carry.
    """
    if page_size < 1:
        raise UsageError(f"page_size: expected at least 1, found {page_size}")
    access, store = Access(token), RepoStore(Path(folder))
    for skipped in snapshot_plain(store):
        log.warning("not served as it is now: %s", text_line(str(skipped.error)))
    replies = {HubFault: fault_reply, HubcliError: damage_reply, HTTPException: http_reply, Exception: damage_reply}
    app = Starlette(routes=_routes(), exception_handlers=replies)
    app.router.redirect_slashes = False
    app.state.hub = Hub(store, access, page_size)
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
    views = [
        Route(f"{repo}/revision/{{revision}}", info.info),
        Route(f"{repo}/tree/{{revision}}", tree.tree),
        Route(f"{repo}/tree/{{revision}}/{{path:path}}", tree.tree),
        Route(f"{repo}/refs", info.refs),
        Route(f"{repo}/commits/{{revision}}", info.commits),
        Route(f"{repo}/paths-info/{{revision}}", tree.paths_info, methods=["POST"]),
        Route(f"{repo}/auth-check", auth_check),
    ]
    return [
        Route("/api/whoami-v2", whoami),
        Route("/api/{types:hub_types}", listing.listing),
        *_writes(repo),
        *views,
        Route(repo, info.info),
        Route("/{types:hub_types}/{repo:hub_repo}/resolve/{revision}/{path:path}", files.resolve),
        Route("/{repo:hub_repo}/resolve/{revision}/{path:path}", files.resolve),
    ]


def _writes(repo: str) -> list[Route]:
    """What the Hugging Face client calls to change a hub. Answered, so that it says why and does not try again."""
    writes = {
        "/api/repos/{what:path}": ["POST", "DELETE", "PUT"],
        "/api/validate-yaml": ["POST"],
        f"{repo}/preupload/{{revision}}": ["POST"],
        f"{repo}/commit/{{revision}}": ["POST"],
        f"{repo}/branch/{{name:path}}": ["POST", "DELETE"],
        f"{repo}/tag/{{name:path}}": ["POST", "DELETE"],
        f"{repo}/settings": ["PUT"],
        f"{repo}/discussions": ["POST"],
        f"{repo}/auth-check/write": ["GET"],
        f"{repo}/xet-write-token/{{revision}}": ["GET"],
        "/{repo:path}.git/info/lfs/objects/batch": ["POST"],
    }
    return [Route(path, read_only, methods=methods) for path, methods in writes.items()]


def read_only(_: Request) -> Response:
    """The answer to every write."""
    raise NotImplementedFault("this hub server only reads; import folders on the machine that serves them")


def auth_check(request: Request) -> Response:
    """GET /api/{types}/{repo}/auth-check: 200 if this caller may read the files."""
    hub_of(request).access.check_files(repo_of(request), caller_of(request))
    return JSONResponse({})


def whoami(request: Request) -> Response:
    """GET /api/whoami-v2: the one user there is, to whoever has the token."""
    caller = caller_of(request)
    if caller is Caller.ANONYMOUS:
        return error_reply(401, "Invalid username or password.")
    if caller is Caller.STRANGER:
        return error_reply(401, "Invalid credentials in Authorization header")
    token = {"displayName": "hub serve", "role": "read"}
    user = {"type": "user", "id": "member", "name": "member", "fullname": "Member of this hub", "orgs": []}
    return JSONResponse({**user, "auth": {"type": "access_token", "accessToken": token}})
