"""Routes of discussions and pull requests."""

from __future__ import annotations

import html
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hubcli.server import pulls
from hubcli.server.bodies import Json, choice_of, known, text_of
from hubcli.server.discussions import CLOSED, OPEN, Discussion, Event
from hubcli.server.faults import BadRequestFault, DiscussionMissing
from hubcli.server.hub import hub_of, part, repo_of
from hubcli.server.repo import Repo
from hubcli.server.repo_routes import USER, repo_to_write

_PAGE: Final = 50
_KINDS: Final = {"all": (True, False), "discussion": (False,), "pull_request": (True,)}


def listing(request: Request) -> Response:
    """GET /api/{types}/{repo}/discussions: newest first, in pages `p`, by `type`, `status` and `author`."""
    repo, asked = repo_of(request), request.query_params
    unknown = sorted(set(asked) - {"p", "type", "status", "author"})
    if unknown:
        raise BadRequestFault(f"this server can't list discussions by {', '.join(unknown)}")
    kinds = _chosen(asked.get("type", "all"), "type", _KINDS)
    live = _chosen(asked.get("status", "all"), "status", {"all": (True, False), OPEN: (True,), CLOSED: (False,)})
    author = asked.get("author")
    found = [
        one
        for one in pulls.listed(repo)
        if one.is_pull in kinds and one.is_live in live and author in (None, one.author)
    ]
    page, size = asked.get("p", "0"), min(_PAGE, hub_of(request).page_size)
    if not (page.isascii() and page.isdigit() and len(page) < 10):
        raise BadRequestFault(f"parameter p: expected a number, found {page!r}")
    start = int(page) * size
    shown = [_summary(repo, one) for one in found[start : start + size]]
    closed = sum(not one.is_live for one in found)
    return JSONResponse({"discussions": shown, "count": len(found), "start": start, "numClosedDiscussions": closed})


def _chosen(text: str, name: str, choices: dict[str, Any]) -> Any:
    if text not in choices:
        raise BadRequestFault(f"parameter {name}: expected one of {', '.join(choices)}, found {text!r}")
    return choices[text]


def details(request: Request) -> Response:
    """GET /api/{types}/{repo}/discussions/{number}: with all that happened in it. There is no text of the difference."""
    repo = repo_of(request)
    found = pulls.find(repo, _number(request))
    document = _summary(repo, found) | {"events": [_event(event) for event in found.events]}
    if found.is_pull:
        changes = {"base": f"refs/heads/{found.target}", "mergeCommitId": found.merged}
        document |= {"changes": changes, "filesWithConflicts": pulls.conflicts_of(repo, found)}
    return JSONResponse(document)


def start(request: Request, body: Json) -> Response:
    """POST /api/{types}/{repo}/discussions: `title`, `description`, `pullRequest`."""
    repo = repo_to_write(request)
    known(body, "discussion", ("title", "description", "pullRequest"))
    pull = bool(choice_of(body, "pullRequest", (True, False), default=False))
    title, text = (text_of(body, name, "discussion") for name in ("title", "description"))
    made = pulls.open_discussion(repo, title, text, USER, pull=pull)
    return JSONResponse({"num": made.number, "pullRequest": pull})


def comment(request: Request, body: Json) -> Response:
    """POST …/discussions/{number}/comment: `comment`."""
    repo, number = repo_to_write(request), _number(request)
    text = text_of(known(body, "comment", ("comment",)), "comment", "comment")
    return _last_event("newMessage", pulls.add_comment(repo, number, text, USER))


def rename(request: Request, body: Json) -> Response:
    """POST …/discussions/{number}/title: `title`."""
    repo, number = repo_to_write(request), _number(request)
    title = text_of(known(body, "title", ("title",)), "title", "title")
    return _last_event("newTitle", pulls.rename(repo, number, title, USER))


def set_status(request: Request, body: Json) -> Response:
    """POST …/discussions/{number}/status: `status` open or closed, and perhaps a `comment`."""
    repo, number = repo_to_write(request), _number(request)
    known(body, "status", ("status", "comment"))
    status, text = choice_of(body, "status", (OPEN, CLOSED)), text_of(body, "comment", "status", "")
    if status is None:
        raise BadRequestFault("status: expected open or closed")
    return _last_event("newStatus", pulls.set_status(repo, number, status, text, USER))


def merge(request: Request, body: Json) -> Response:
    """POST …/discussions/{number}/merge: perhaps with a `comment`; 409 where it can't be merged."""
    repo, number = repo_to_write(request), _number(request)
    text = text_of(known(body, "merge", ("comment",)), "comment", "merge", "")
    return _last_event("newStatus", pulls.merge(repo, number, text, USER))


def _last_event(name: str, done: Discussion) -> Response:
    return JSONResponse({name: _event(done.events[-1])})


def _number(request: Request) -> int:
    text = part(request, "number")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise DiscussionMissing(f"no discussion {text!r}: expected a number")
    return int(text)


def _summary(repo: Repo, found: Discussion) -> Json:
    return {
        "num": found.number,
        "title": found.title,
        "status": found.status,
        "author": _author(found.author),
        "createdAt": found.created,
        "isPullRequest": found.is_pull,
        "repo": {"name": repo.id, "type": repo.settings.type},
    }


def _event(event: Event) -> Json:
    data = dict(event.data)
    if event.kind == "comment":
        latest = {**data["latest"], "html": f"<p>{html.escape(data['latest']['raw'])}</p>"}
        data |= {"latest": latest | {"author": _author(event.author)}, "numEdits": len(data["history"])}
    return {
        "id": event.id,
        "type": event.kind,
        "createdAt": event.date,
        "author": _author(event.author),
        "data": data,
    }


def _author(name: str) -> Json:
    return {"name": name, "type": "user"}
