"""Routes of a push: preupload, commit, and the check of a card's front matter."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hubcli.server import pulls
from hubcli.server.bodies import Json, count_of, known, list_of, receive, text_of
from hubcli.server.card import MAX_CARD, check_front_matter
from hubcli.server.changes import changed
from hubcli.server.commit_body import MAX_OPERATIONS, CommitBody
from hubcli.server.faults import BodyFault, NotImplementedFault, TooLarge
from hubcli.server.hub import caller_of, hub_of, part
from hubcli.server.limits import held
from hubcli.server.names import check_path
from hubcli.server.objects import Commit, FileEntry
from hubcli.server.replies import flag
from hubcli.server.repo import Repo, Words
from hubcli.server.repo_routes import USER, repo_to_write, web_url
from hubcli.server.writing import check_parent, commit_edit, newest


def validate_yaml(request: Request, body: Json) -> Response:
    """POST /api/validate-yaml: what is wrong with a card's front matter; 400 with errors where it can't be read.

    For those who push: reading YAML costs time.
    """
    hub_of(request).access.check_write(caller_of(request))
    known(body, "validate-yaml", ("content", "repoType"))
    errors, warnings = check_front_matter(text_of(body, "content", "validate-yaml").encode()[:MAX_CARD])
    found = {
        name: [{"message": text} for text in texts] for name, texts in (("errors", errors), ("warnings", warnings))
    }
    return JSONResponse(found, status_code=400 if errors else 200)


def preupload(request: Request, body: Json) -> Response:
    """POST /api/{types}/{repo}/preupload/{revision}: for each file, how to send it, and what there is of this name.

    The sizes are announced here, so what is too large is refused before any byte of it is sent.
    """
    repo, limits = repo_to_write(request), hub_of(request).limits
    known(body, "preupload", ("files", "gitIgnore", "gitAttributes"))
    before = _files_at(repo, part(request, "revision"))
    replies = []
    new: list[tuple[str | None, int]] = []
    for file in list_of(body, "files", MAX_OPERATIONS):
        path = check_path(text_of(file, "path", "file"))
        size, there = count_of(file, "size", path), before.get(path)
        limits.check_file(path, size)
        if there is None or there.size != size:
            new.append((None, size))
        replies.append(_how(repo, path, size, there, lfs_above=limits.lfs_above))
    limits.check_repo(repo, new, sent=False)
    return JSONResponse({"files": replies})


def _files_at(repo: Repo, revision: str) -> dict[str, FileEntry]:
    refs = repo.refs()
    return dict(repo.resolve(revision).files) if refs.branches or revision != "main" else {}


def _how(repo: Repo, path: str, size: int, there: FileEntry | None, *, lfs_above: int) -> Json:
    mode = "lfs" if size > lfs_above else "regular"
    # the client compares an LFS file with the sha256 and a regular one with git's hash of its bytes, and leaves it out
    # of the commit if that is the same; what came by LFS here has git's hash of its pointer
    oid = None
    if there is not None and there.size == size:
        oid = there.sha256 if mode == "lfs" else repo.store.blobs.git_oid(there.sha256) if there.lfs else there.oid
    return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid}


async def commit(request: Request) -> Response:
    """POST /api/{types}/{repo}/commit/{revision}[?create_pr=1]: NDJSON, taken in as it comes."""
    repo, room = await run_in_threadpool(_opened, request)
    hub = hub_of(request)
    body = CommitBody(hub.store, hub.limits, room)
    try:
        await receive(request, body.feed)
        await run_in_threadpool(body.end)
        return await run_in_threadpool(_committed, request, repo, body)
    finally:
        await run_in_threadpool(body.close)


def _opened(request: Request) -> tuple[Repo, int]:
    repo, limits = repo_to_write(request), hub_of(request).limits
    room = limits.max_repo - sum(held(repo).values())
    announced = request.headers.get("content-length", "0")
    # base64 makes 4 bytes of 3
    if announced.isdigit() and int(announced) * 3 // 4 > limits.max_repo + limits.max_file:
        raise TooLarge(f"commit: {announced} bytes are more than a repo here may have")
    return repo, max(room, 0)


def _committed(request: Request, repo: Repo, body: CommitBody) -> Response:
    hub, header, revision = hub_of(request), body.header, part(request, "revision")
    if header is None:
        raise BodyFault("commit: expected a header")
    changes, words = body.changes(), Words(header.title, header.description, USER)
    url = web_url(request, repo.settings.type, repo.id)

    def edit(head: Commit | None) -> dict[str, FileEntry]:
        check_parent(revision, head, header.parent)
        files = changed(head, changes)
        hub.limits.check_repo(repo, [(entry.sha256, entry.size) for entry in files.values()])
        return files

    proposed = flag(request, "create_pr")
    # once before anything is stored, and once more under the lock
    edit(repo.resolve(revision) if proposed else newest(repo, revision))
    body.keep()
    reply: dict[str, Any] = {"success": True, "hookOutput": ""}
    if proposed:
        pull = pulls.propose(repo, revision, edit, words)
        made = str(pull.head)
        reply["pullRequestUrl"] = f"{url}/discussions/{pull.number}"
    else:
        made = commit_edit(repo, revision, edit, words).id
    return JSONResponse({**reply, "commitUrl": f"{url}/commit/{made}", "commitOid": made})


def not_here(request: Request) -> Response:
    """The answer to what the Hugging Face Hub does and this server does not."""
    what = request.scope["path"].rpartition("/api/")[2]
    hint = "; set HF_HUB_DISABLE_XET=1 to send large files" if "xet" in what else ""
    raise NotImplementedFault(f"this hub server can't do {what}{hint}")
