"""What the API says of one repo: info, refs, commits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hubcli.server.faults import BadRequestFault
from hubcli.server.hub import Hub, commit_of, hub_of, repo_of
from hubcli.server.objects import Commit, FileEntry
from hubcli.server.replies import cursor_of, flag, page_reply, page_size
from hubcli.server.repo import Repo
from hubcli.server.tree import pointer_size


def describe(hub: Hub, repo: Repo, commit: Commit) -> dict[str, Any]:
    """Everything the API can say of a repo at a commit; callers choose keys. Downloads and likes are not counted."""
    settings, card = repo.settings, hub.card(commit)
    return {
        "id": settings.id,
        "modelId": settings.id,
        "author": settings.id.rpartition("/")[0] or None,
        "sha": commit.id,
        "lastModified": commit.date,
        "createdAt": settings.created,
        "private": settings.private,
        "gated": "manual" if settings.gated is True else settings.gated,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": list(dict.fromkeys((*card.tags, *settings.tags))),
        "pipeline_tag": card.pipeline_tag,
        "library_name": card.library_name,
        "cardData": card.data,
        "config": card.config,
        "siblings": [{"rfilename": path} for path in commit.files],
        "usedStorage": sum(entry.size for entry in commit.files.values()),
    }


def info(request: Request) -> Response:
    """GET /api/{types}/{repo}[/revision/{revision}]; `blobs=true` adds sizes and hashes, `expand` chooses keys."""
    hub, repo = hub_of(request), repo_of(request)
    commit = commit_of(request, repo)
    document = describe(hub, repo, commit)
    if flag(request, "blobs"):
        document["siblings"] = [_sibling(path, entry) for path, entry in commit.files.items()]
    return JSONResponse(chosen(request, document))


def chosen(request: Request, document: Mapping[str, Any]) -> dict[str, Any]:
    """The keys `expand` names, with the id; all of them where it names none."""
    names = request.query_params.getlist("expand") + request.query_params.getlist("expand[]")
    unknown = [name for name in names if name not in document]
    if unknown:
        raise BadRequestFault(f"parameter expand: this server has no {', '.join(map(repr, unknown))}")
    return {key: value for key, value in document.items() if not names or key in (*names, "id")}


def _sibling(path: str, entry: FileEntry) -> dict[str, Any]:
    document: dict[str, Any] = {"rfilename": path, "size": entry.size, "blobId": entry.oid}
    if entry.lfs:
        document["lfs"] = {"size": entry.size, "sha256": entry.sha256, "pointerSize": pointer_size(entry)}
    return document


def refs(request: Request) -> Response:
    """GET /api/{types}/{repo}/refs; pull requests with `include_prs`."""
    repo = repo_of(request)
    found = repo.refs()

    def listed(kind: str, names: Mapping[str, str]) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": at} for name, at in sorted(names.items())]

    document = {"branches": listed("heads", found.branches), "converts": [], "tags": listed("tags", found.tags)}
    pull_requests = []
    if flag(request, "include_prs"):
        open_ones = ((number, repo.discussion(number).head) for number in repo.discussion_numbers())
        pull_requests = [
            {"name": f"refs/pr/{number}", "ref": f"refs/pr/{number}", "targetCommit": head}
            for number, head in open_ones
            if head is not None
        ]
    return JSONResponse({**document, "pullRequests": pull_requests})


def commits(request: Request) -> Response:
    """GET /api/{types}/{repo}/commits/{revision}, newest first."""
    repo = repo_of(request)
    start, size = commit_of(request, repo), page_size(request, hub_of(request).page_size)
    after = cursor_of(request)
    if after is not None:
        start = repo.commit(after) if isinstance(after, str) else start
    items: list[dict[str, Any]] = []
    following = None
    for commit in repo.history(start):
        if len(items) == size:
            following = commit.id
            break
        items.append(_commit(commit))
    return page_reply(request, items, following)


def _commit(commit: Commit) -> dict[str, Any]:
    return {
        "id": commit.id,
        "title": commit.title,
        "message": commit.message,
        "authors": [{"user": commit.author}],
        "date": commit.date,
    }
