"""What the API says of a commit's files: the tree, and chosen paths."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hubcli.server.faults import BadRequestFault, EntryMissing
from hubcli.server.hub import commit_of, hub_of, path_of, repo_of
from hubcli.server.names import check_path
from hubcli.server.objects import Commit, FileEntry, folder_oids, lfs_pointer
from hubcli.server.replies import cursor_of, error_reply, flag, page_reply, page_size
from hubcli.server.repo import Repo

MAX_BODY, MAX_FIELDS = 1 << 20, 10_000
MAX_EXPANDED = 50  # the hub's own limit: each entry may cost a walk through the history


def tree(request: Request) -> Response:
    """GET /api/{types}/{repo}/tree/{revision}[/{path}]: a folder's entries in order of path, `recursive` or not."""
    repo = repo_of(request)
    commit, folder = commit_of(request, repo), path_of(request)
    if folder and not any(path.startswith(f"{folder}/") for path in commit.files):
        raise EntryMissing(f"{repo.settings.id} has no folder {folder!r} at {commit.id}", commit=commit.id)
    paths = _below(folder, commit.files, recursive=flag(request, "recursive"))
    after = cursor_of(request) or ""
    if not isinstance(after, str):
        raise BadRequestFault("parameter cursor: expected one of this list")
    rest = [path for path in paths if path > after]
    expand, most = flag(request, "expand"), hub_of(request).page_size
    size = page_size(request, min(most, MAX_EXPANDED) if expand else most)
    items = _entries(repo, commit, rest[:size], expand=expand)
    return page_reply(request, items, rest[size - 1] if len(rest) > size else None)


def _below(folder: str, files: Iterable[str], *, recursive: bool) -> list[str]:
    start = f"{folder}/" if folder else ""
    found: set[str] = set()
    for path in files:
        if path.startswith(start):
            names = path[len(start) :].split("/")
            found.update(start + "/".join(names[: count + 1]) for count in range(len(names) if recursive else 1))
    return sorted(found)


def _entries(repo: Repo, commit: Commit, paths: Iterable[str], *, expand: bool) -> list[dict[str, Any]]:
    folders = folder_oids(commit.files)
    wanted = list(paths)
    last = _last_commits(repo, commit, wanted) if expand else {}
    items = []
    for path in wanted:
        entry = commit.files.get(path)
        item: dict[str, Any] = {"type": "directory", "oid": folders.get(path), "size": 0, "path": path}
        if entry:
            item |= {"type": "file", "oid": entry.oid, "size": entry.size}
            if entry.lfs:
                item["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": pointer_size(entry)}
        if path in last:
            item["lastCommit"] = {"id": last[path].id, "title": last[path].title, "date": last[path].date}
        items.append(item)
    return items


def _last_commits(repo: Repo, commit: Commit, paths: Iterable[str]) -> dict[str, Commit]:
    """For each path, the newest commit that changed it."""
    waiting, found = set(paths), {}
    states = ((one, {**one.files, **folder_oids(one.files)}) for one in repo.history(commit))
    newer, now = next(states)
    for older, before in states:
        changed = {path for path in waiting if now.get(path) != before.get(path)}
        found.update(dict.fromkeys(changed, newer))
        waiting -= changed
        newer, now = older, before
    return found | dict.fromkeys(waiting, newer)


def pointer_size(entry: FileEntry) -> int:
    """The size in bytes of the pointer git keeps for an LFS file."""
    return len(lfs_pointer(entry.sha256, entry.size))


async def paths_info(request: Request) -> Response:
    """POST /api/{types}/{repo}/paths-info/{revision}: a form or JSON of `paths`, `expand`; leaves out unknown paths."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            return error_reply(413, f"paths-info: expected at most {MAX_BODY} bytes")
    return await run_in_threadpool(_paths_info, request, body)


def _paths_info(request: Request, body: bytes) -> Response:
    repo = repo_of(request)
    commit = commit_of(request, repo)
    paths, expand = _asked(request, body)
    folders = folder_oids(commit.files)
    wanted = dict.fromkeys(check_path(path) for path in paths)
    known = [path for path in wanted if path in commit.files or path in folders]
    return JSONResponse(_entries(repo, commit, known, expand=expand))


def _asked(request: Request, body: bytes) -> tuple[list[str], bool]:
    try:
        if request.headers.get("content-type", "").startswith("application/json"):
            document = json.loads(body)
        else:
            form = parse_qs(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
            expanded = form.get("expand", ["false"])[-1].lower() in ("true", "1")
            document = {"paths": form.get("paths", []), "expand": expanded}
    except (ValueError, RecursionError):
        raise BadRequestFault("paths-info: expected a form or JSON with `paths`") from None
    if not isinstance(document, dict):
        raise BadRequestFault("paths-info: expected an object")
    paths, expand = document.get("paths", []), document.get("expand", False)
    if not (isinstance(paths, list) and all(isinstance(path, str) for path in paths) and isinstance(expand, bool)):
        raise BadRequestFault("paths-info: expected `paths`, a list of texts, and `expand`, true or false")
    return paths, expand
