"""Routes of branches and tags."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hubcli.server import writing
from hubcli.server.bodies import Json, known, text_of
from hubcli.server.faults import BadRequestFault
from hubcli.server.hub import part
from hubcli.server.repo_routes import repo_to_write

MAX_MESSAGE = 4096


def add_branch(request: Request, body: Json) -> Response:
    """POST /api/{types}/{repo}/branch/{name}: at `startingPoint`, main's newest commit by default; 409 if it is there."""
    repo = repo_to_write(request)
    start = text_of(known(body, "branch", ("startingPoint",)), "startingPoint", "branch", "") or None
    writing.add_branch(repo, part(request, "name"), start)
    return JSONResponse({})


def drop_branch(request: Request) -> Response:
    """DELETE /api/{types}/{repo}/branch/{name}."""
    writing.drop_branch(repo_to_write(request), part(request, "name"))
    return JSONResponse({})


def add_tag(request: Request, body: Json) -> Response:
    """POST /api/{types}/{repo}/tag/{revision}: `tag` and `message`; 409 if it is there."""
    repo = repo_to_write(request)
    known(body, "tag", ("tag", "message"))
    message = text_of(body, "message", "tag", "")
    if len(message) > MAX_MESSAGE:
        raise BadRequestFault(f"tag: message: expected at most {MAX_MESSAGE} characters")
    writing.add_tag(repo, text_of(body, "tag", "tag"), part(request, "name"), message)
    return JSONResponse({})


def drop_tag(request: Request) -> Response:
    """DELETE /api/{types}/{repo}/tag/{name}."""
    writing.drop_tag(repo_to_write(request), part(request, "name"))
    return JSONResponse({})
