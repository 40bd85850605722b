"""Reading request bodies: JSON of a bounded size, with the fields a route knows and no others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from hubcli.errors import EntryError, HubcliError
from hubcli.server.disk import CHUNK
from hubcli.server.faults import BodyFault, TooLarge
from hubcli.strict_json import loads

MAX_BODY: Final = 2 << 20
_DRAINED: Final = 64 << 20
Json = dict[str, Any]
View = Callable[[Request, Json], Response]


def with_json(view: View) -> Callable[[Request], Awaitable[Response]]:
    """A route of a view that gets the request's JSON object; an empty body is an empty object."""

    async def route(request: Request) -> Response:
        body = bytearray()

        def take(piece: bytes) -> None:
            body.extend(piece)
            if len(body) > MAX_BODY:
                raise TooLarge(f"expected a body of at most {MAX_BODY} bytes")

        await receive(request, take)
        return await run_in_threadpool(lambda: view(request, _object(bytes(body))))

    route.__name__ = view.__name__
    return route


def _object(body: bytes) -> Json:
    try:
        document = loads(body, where="body", limit=MAX_BODY) if body.strip() else {}
    except EntryError as error:
        raise BodyFault(error.message) from None
    return known({} if document is None else document, "body")


async def receive(request: Request, take: Callable[[bytes], None]) -> None:
    """Give a body to `take` in pieces of about a MiB, off the event loop.

    What `take` refuses is raised when the client has sent the rest, up to a bound: while it sends, it sees no answer.
    """
    waiting, refusal, unread = bytearray(), None, 0
    async for chunk in request.stream():
        if refusal is not None:
            unread += len(chunk)
            if unread > _DRAINED:
                break
            continue
        waiting += chunk
        if len(waiting) >= CHUNK:
            try:
                await run_in_threadpool(take, bytes(waiting))
            except HubcliError as error:
                refusal = error
            waiting.clear()
    if refusal is not None:
        raise refusal
    await run_in_threadpool(take, bytes(waiting))


def known(value: Any, where: str, names: Iterable[str] | None = None) -> Json:
    """An object with no other fields than these; BodyFault otherwise."""
    if not isinstance(value, dict):
        raise BodyFault(f"{where}: expected an object")
    unknown = sorted(set(value) - set(names)) if names is not None else []
    if unknown:
        raise BodyFault(f"{where}: this hub server knows no {', '.join(ascii(name)[:60] for name in unknown)}")
    return value


def text_of(fields: Json, name: str, where: str, default: str | None = None) -> str:
    """A text field; BodyFault if it is no text, or missing without a default. None counts as missing."""
    value = fields.get(name)
    value = default if value is None else value
    if not isinstance(value, str):
        raise BodyFault(f"{where}: {name}: expected a text")
    return value


def list_of(fields: Json, name: str, most: int) -> list[Json]:
    """A field that is a list of at most `most` objects."""
    value = fields.get(name)
    if not isinstance(value, list) or len(value) > most:
        raise BodyFault(f"body: {name}: expected a list of at most {most} objects")
    return [known(item, name) for item in value]


def count_of(fields: Json, name: str, where: str) -> int:
    """A field that is a number of bytes."""
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BodyFault(f"{where}: {name}: expected a number of bytes")
    return value


def choice_of(fields: Json, name: str, choices: Iterable[Any], default: Any = None) -> Any:
    """A field that is one of these values, or the default where it is missing or None."""
    value = fields.get(name)
    if value is None:
        return default
    known_values = list(choices)
    if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in known_values):
        raise BodyFault(f"body: {name}: expected one of {known_values}, found {ascii(value)[:60]}")
    return value
