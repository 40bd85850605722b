"""Errors and pages as HTTP responses, in the words the Hugging Face client reads."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Sequence
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hubcli.server.faults import BadRequestFault, EntryMissing, HubFault

log: Final = logging.getLogger("hubcli.server")


def error_reply(
    status: int,
    message: str,
    *,
    code: str = "",
    headers: dict[str, str] | None = None,
    more: dict[str, str] | None = None,
) -> JSONResponse:
    """An error: JSON body (with `more` beside the message), X-Error-Message, and X-Error-Code where there is one."""
    fields = {"X-Error-Message": text_line(message), **(headers or {})}
    if code:
        fields["X-Error-Code"] = code
    if status == 401:
        fields["WWW-Authenticate"] = 'Bearer realm="hub"'
    return JSONResponse({"error": message, **(more or {})}, status_code=status, headers=fields)


def fault_reply(_: Request, error: Exception) -> Response:
    """The reply for a HubFault."""
    assert isinstance(error, HubFault)
    message = error.message if error.cause is None else f"{error.message}: {error.cause}"
    commit = {"X-Repo-Commit": error.commit} if isinstance(error, EntryMissing) else None
    return error_reply(error.status, message, code=error.code, headers=commit)


def busy_reply(request: Request, error: Exception) -> Response:
    """The reply for a repo that somebody else held for too long: the client may ask again."""
    log.error("%s %s: %s", request.method, text_line(request.scope["path"]), text_line(str(error)))
    return error_reply(503, "another change of this repo goes on; try again", headers={"Retry-After": "1"})


def damage_reply(request: Request, error: Exception) -> Response:
    """The reply for anything else. What is wrong, and where on the disk, is for this machine's log alone."""
    log.error("%s %s: %s", request.method, text_line(request.scope["path"]), text_line(str(error)))
    return error_reply(500, "this hub could not read what was asked for; its log says why")


def http_reply(request: Request, error: Exception) -> Response:
    """The reply where no route fits."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.scope['path']}: {error.detail}"
    return error_reply(error.status_code, message, headers=dict(error.headers or {}))


def gone_reply(_: Request, error: Exception) -> Response:
    """What nobody reads: the client went away while it was sending."""
    del error
    return Response(status_code=400)


def text_line(message: str) -> str:
    """Text from outside as one line of ASCII: nothing of it may end a header or drive a terminal."""
    return "".join(char if char.isascii() and char.isprintable() else ascii(char)[1:-1] for char in message)[:1000]


def flag(request: Request, name: str) -> bool:
    """A query parameter that is true or false; absent is false."""
    text = request.query_params.get(name, "false").lower()
    if text not in ("true", "false", "1", "0"):
        raise BadRequestFault(f"parameter {name}: expected true or false, found {text!r}")
    return text in ("true", "1")


def page_size(request: Request, most: int) -> int:
    """`limit` of the query, at most `most`."""
    text = request.query_params.get("limit", str(most))
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text) > 0):
        raise BadRequestFault(f"parameter limit: expected a positive number, found {text!r}")
    return min(int(text), most)


def page_reply(request: Request, items: Sequence[Any], following: Any = None) -> JSONResponse:
    """A page of a list; `following` is the cursor of the next page, None on the last."""
    headers = {}
    if following is not None:
        cursor = base64.urlsafe_b64encode(json.dumps(following).encode()).decode()
        headers["Link"] = f'<{request.url.include_query_params(cursor=cursor)}>; rel="next"'
    return JSONResponse(list(items), headers=headers)


def cursor_of(request: Request) -> Any:
    """What `page_reply` was given as `following`, or None on the first page."""
    text = request.query_params.get("cursor")
    if text is None:
        return None
    try:
        return json.loads(base64.urlsafe_b64decode(text.encode()))
    except (ValueError, RecursionError):
        raise BadRequestFault("parameter cursor: expected the one of a Link header") from None
