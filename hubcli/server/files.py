"""GET and HEAD /[datasets/]{repo}/resolve/{revision}/{path}: the bytes of a file."""

from __future__ import annotations

import os
from datetime import datetime
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from hubcli.errors import IntegrityError
from hubcli.server.disk import CHUNK
from hubcli.server.faults import BadRequestFault
from hubcli.server.hub import caller_of, commit_of, hub_of, path_of, repo_of
from hubcli.server.objects import Commit, FileEntry
from hubcli.server.replies import flag


class BlobResponse(FileResponse):
    """A file in large chunks; Range, If-Range, 206 and 416 are Starlette's."""

    chunk_size = CHUNK


def resolve(request: Request) -> Response:
    """The file, a part of it (206), 304 for what the client has, or 416."""
    repo = repo_of(request)
    hub_of(request).access.check_files(repo, caller_of(request))
    commit = commit_of(request, repo)
    path = path_of(request)
    if not path:
        raise BadRequestFault("path: expected a file")
    entry, blob = repo.blob(commit, path)
    headers = _headers(commit, path, entry, attach=flag(request, "download"))
    if _known(request, entry):
        return Response(status_code=304, headers=headers)
    media = "application/octet-stream" if entry.lfs else "text/plain; charset=utf-8"
    return BlobResponse(blob, headers=headers, media_type=media, stat_result=_status(blob, entry))


def _headers(commit: Commit, path: str, entry: FileEntry, *, attach: bool) -> dict[str, str]:
    name = path.rpartition("/")[2]
    plain = "".join(char if char.isascii() and char not in '"\\' else "_" for char in name)
    shown = "attachment" if attach else "inline"
    headers = {
        "X-Repo-Commit": commit.id,
        "ETag": f'"{entry.etag}"',
        "Last-Modified": format_datetime(datetime.fromisoformat(commit.date), usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"{shown}; filename*=UTF-8''{quote(name)}; filename=\"{plain}\";",
        # a browser shows what it gets as text, and runs none of it
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if entry.lfs:
        headers |= {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
    return headers


def _known(request: Request, entry: FileEntry) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return "*" in tags or f'"{entry.etag}"' in tags


def _status(blob: Path, entry: FileEntry) -> os.stat_result:
    try:
        status = blob.stat()
    except FileNotFoundError:
        raise IntegrityError(f"blob {entry.sha256} is missing from this hub") from None
    if status.st_size != entry.size:
        raise IntegrityError(f"blob {entry.sha256}: expected {entry.size} bytes, found {status.st_size}")
    return status
