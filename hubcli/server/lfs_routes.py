"""Routes of Git LFS: the batch that says where to send an object, and the PUT that takes it.

The client sends an object to the address it got without its token, so the address carries its own right: which object
of how many bytes, for which repo, until when, signed by the server.
"""

from __future__ import annotations

import hmac
import time
from typing import Any, Final
from urllib.parse import quote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hubcli.server.bodies import Json, choice_of, count_of, known, list_of, receive, text_of
from hubcli.server.commit_body import is_sha256
from hubcli.server.contents import UPLOAD_SECONDS, mark_pending, renew_pending, unmark_pending
from hubcli.server.faults import BadRequestFault, TooLarge, WriteDenied
from hubcli.server.hub import hub_of, part, repo_type_of
from hubcli.server.repo import Repo
from hubcli.server.repo_routes import repo_to_write
from hubcli.server.uploads import Incoming

MAX_OBJECTS: Final = 1000


def batch(request: Request, body: Json) -> Response:
    """POST /[datasets/]{repo}.git/info/lfs/objects/batch: for each object, where to PUT it; nothing where it is here."""
    repo, limits, store = repo_to_write(request), hub_of(request).limits, hub_of(request).store
    known(body, "batch", ("operation", "transfers", "objects", "hash_algo", "ref"))
    choice_of(body, "hash_algo", ("sha256",))
    if choice_of(body, "operation", ("upload",)) is None or "basic" not in (body.get("transfers") or ["basic"]):
        raise BadRequestFault("batch: this server takes uploads by the transfer 'basic'; files are read over resolve")
    objects = []
    for one in list_of(body, "objects", MAX_OBJECTS):
        oid, size = text_of(one, "oid", "object"), count_of(one, "size", "object")
        if not is_sha256(oid):
            raise BadRequestFault(f"object {oid[:80]!r}: expected 64 hex digits")
        limits.check_file(oid, size)
        objects.append((oid, size))
    limits.check_repo(repo, objects)
    replies: list[Json] = []
    for oid, size in objects:
        actions: Json = {}
        if store.blobs.claim(oid, size):
            renew_pending(repo, oid)
        else:
            actions = {"actions": {"upload": {"href": _address(request, repo, oid, size), "header": {}}}}
        replies.append({"oid": oid, "size": size, **actions})
    document = {"transfer": "basic", "objects": replies, "hash_algo": "sha256"}
    return JSONResponse(document, media_type="application/vnd.git-lfs+json")


def _address(request: Request, repo: Repo, oid: str, size: int) -> str:
    until = int(time.time()) + UPLOAD_SECONDS
    signed = _signature(request, repo.settings.type, repo.id, oid, size, until)
    query = urlencode({"size": size, "until": until, "signature": signed})
    return f"{str(request.base_url).rstrip('/')}/lfs/{repo.settings.type}s/{quote(repo.id)}/{oid}?{query}"


def _signature(request: Request, *parts: Any) -> str:
    return hmac.digest(hub_of(request).access.signing_key(), repr(parts).encode(), "sha256").hex()


async def put(request: Request) -> Response:
    """PUT /lfs/{types}/{repo}/{oid}?size&until&signature: the object, counted and hashed while it comes."""
    oid, size = await run_in_threadpool(_allowed, request)
    repo = await run_in_threadpool(_counted, request, oid, size)
    kept = False
    try:
        file = await run_in_threadpool(Incoming, repo.store, oid, size)
        try:
            await receive(request, file.write)
            await run_in_threadpool(_kept, file, oid, size)
            kept = True
        finally:
            await run_in_threadpool(file.drop)
    finally:
        if not kept:
            await run_in_threadpool(unmark_pending, repo, oid)
    return Response(status_code=200)


def _counted(request: Request, oid: str, size: int) -> Repo:
    """The repo that the object is for, which counts it from now on; TooLarge where it has no room."""
    hub = hub_of(request)
    repo = hub.store.repo(repo_type_of(request), part(request, "repo"))
    # addresses may have been asked for together, and each alone had room
    with repo.locked():
        hub.limits.check_repo(repo, [(oid, size)])
        mark_pending(repo, oid, size)
    return repo


def _allowed(request: Request) -> tuple[str, int]:
    asked, oid = request.query_params, part(request, "oid")
    size, until = (asked.get(name, "") for name in ("size", "until"))
    if not all(text.isascii() and text.isdigit() and len(text) < 20 for text in (size, until)):
        raise WriteDenied("this upload address is not one that this hub gave")
    expected = _signature(request, repo_type_of(request), part(request, "repo"), oid, int(size), int(until))
    if not hmac.compare_digest(expected.encode(), asked.get("signature", "").encode()):
        raise WriteDenied("this upload address is not one that this hub gave")
    if int(until) < time.time():
        raise WriteDenied("this upload address is older than an hour; ask for another one")
    announced = request.headers.get("content-length", size)
    if announced.isdigit() and int(announced) > int(size):
        raise TooLarge(f"{oid}: expected {size} bytes, found {announced} announced")
    return oid, int(size)


def _kept(file: Incoming, oid: str, size: int) -> None:
    if file.size != size or file.sha256 != oid:
        raise BadRequestFault(
            f"expected {size} bytes of sha256 {oid}, found {file.size} bytes of {file.sha256}",
            hint="the file changed, or the connection broke it: send it again",
        )
    file.keep()
