"""Routes of repos as a whole: create, delete, move, settings, and who may."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hubcli.server import whole
from hubcli.server.access import Caller
from hubcli.server.bodies import Json, choice_of, known, text_of
from hubcli.server.faults import BadRequestFault, RepoExists, RepoMissing
from hubcli.server.hub import caller_of, hub_of, repo_of
from hubcli.server.names import REPO_TYPES, check_repo_id
from hubcli.server.objects import Settings, timestamp
from hubcli.server.replies import error_reply
from hubcli.server.repo import Repo

USER: Final = "member"
_CREATE: Final = ("name", "organization", "type", "private", "visibility")
_SETTINGS: Final = ("private", "visibility", "gated")


def repo_to_write(request: Request) -> Repo:
    """The repo asked for, if this caller may change it."""
    repo = repo_of(request)
    hub_of(request).access.check_write(caller_of(request))
    repo.check_changeable()
    return repo


def web_url(request: Request, repo_type: str, repo_id: str) -> str:
    """The address of a repo, from which the client reads its type and id."""
    prefix = "datasets/" if repo_type == "dataset" else ""
    return f"{str(request.base_url).rstrip('/')}/{prefix}{repo_id}"


def create(request: Request, body: Json) -> Response:
    """POST /api/repos/create: 409 with the address where the repo is there already."""
    hub = hub_of(request)
    hub.access.check_write(caller_of(request))
    known(body, "create", _CREATE)
    settings = Settings(_id_of(body), _type_of(body), timestamp(), "hub", private=bool(_private(body)))
    whole.create(hub.store, settings, USER)
    return JSONResponse({"url": web_url(request, settings.type, settings.id), "name": settings.id, "id": settings.id})


def exists_reply(request: Request, error: Exception) -> Response:
    """The answer to RepoExists."""
    assert isinstance(error, RepoExists)
    url = web_url(request, error.repo_type, error.repo)
    return error_reply(409, error.message, more={"url": url, "name": error.repo, "id": error.repo})


def delete(request: Request, body: Json) -> Response:
    """DELETE /api/repos/delete: by the id that the repo has now."""
    repo = _named(request, _type_of(body), _id_of(body))
    known(body, "delete", ("name", "organization", "type"))
    whole.delete(repo)
    return JSONResponse({})


def move(request: Request, body: Json) -> Response:
    """POST /api/repos/move: by the id that the repo has now, which goes on leading to it."""
    repo = _named(request, _type_of(body), text_of(body, "fromRepo", "move"))
    known(body, "move", ("fromRepo", "toRepo", "type"))
    to_id = check_repo_id(text_of(body, "toRepo", "move"))
    moved = whole.move(repo, to_id)
    return JSONResponse({"url": web_url(request, moved.type, to_id), "name": to_id})


def settings(request: Request, body: Json) -> Response:
    """PUT /api/{types}/{repo}/settings: `visibility` or `private`, and `gated`."""
    repo = repo_to_write(request)
    known(body, "settings", _SETTINGS)
    if not body:
        raise BadRequestFault("settings: expected at least one of " + ", ".join(_SETTINGS))
    gated = choice_of(body, "gated", (False, "auto", "manual"))
    repo.change_settings(private=_private(body), gated=gated, pushed=True)
    return JSONResponse({"private": repo.settings.private, "gated": repo.settings.gated})


def write_check(request: Request) -> Response:
    """GET /api/{types}/{repo}/auth-check/write: 200 if this caller may change the repo."""
    repo_to_write(request)
    return JSONResponse({})


def auth_check(request: Request) -> Response:
    """GET /api/{types}/{repo}/auth-check: 200 if this caller may read the files."""
    hub_of(request).access.check_files(repo_of(request), caller_of(request))
    return JSONResponse({})


def whoami(request: Request) -> Response:
    """GET /api/whoami-v2: the one user there is, to whoever has a token; its organisations are those of all repos."""
    hub, caller = hub_of(request), caller_of(request)
    if caller is Caller.ANONYMOUS:
        return error_reply(401, "Invalid username or password.")
    if not caller.is_member:
        return error_reply(401, "Invalid credentials in Authorization header")
    role = "write" if caller is Caller.WRITER else "read"
    ids = [repo_id for repo_type in REPO_TYPES for repo_id in hub.of_each(repo_type, lambda repo: repo.id)]
    names = sorted({repo_id.partition("/")[0] for repo_id in ids if "/" in repo_id} - {USER})
    orgs = [{"type": "org", "id": name, "name": name, "fullname": name, "roleInOrg": role} for name in names]
    user = {"type": "user", "id": USER, "name": USER, "fullname": "Member of this hub", "orgs": orgs}
    token = {"displayName": "hub serve", "role": role}
    return JSONResponse({**user, "auth": {"type": "access_token", "accessToken": token}})


def _named(request: Request, repo_type: str, repo_id: str) -> Repo:
    hub, caller = hub_of(request), caller_of(request)
    repo = hub.access.find(hub.store, repo_type, repo_id, caller)
    hub.access.check_write(caller)
    if (found := repo.id) != repo_id:
        # a delete that is sent once more, its answer lost, must not take the repo that was moved away
        raise RepoMissing(f"no {repo_type} repo {repo_id}; one that had this id is {found or 'gone'} now")
    return repo


def _id_of(body: Json) -> str:
    name, organization = text_of(body, "name", "repo"), text_of(body, "organization", "repo", "")
    return check_repo_id(name if "/" in name else f"{organization or USER}/{name}")


def _type_of(body: Json) -> str:
    return str(choice_of(body, "type", REPO_TYPES, "model"))


def _private(body: Json) -> bool | None:
    word: Any = choice_of(body, "visibility", ("public", "private"))
    private: bool | None = choice_of(body, "private", (True, False))
    return private if word is None else word == "private"
