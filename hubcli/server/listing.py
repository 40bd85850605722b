"""GET /api/models and /api/datasets: search, filter, sort, pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from hubcli.server.faults import BadRequestFault
from hubcli.server.hub import caller_of, hub_of, repo_type_of
from hubcli.server.info import chosen, describe
from hubcli.server.replies import cursor_of, flag, page_reply, page_size
from hubcli.server.repo import MAIN, Repo

Item = dict[str, Any]

_SORTS: Final = ("lastModified", "createdAt", "downloads", "likes", "trendingScore", "id")
_KNOWN: Final = frozenset(
    ("search", "author", "filter", "pipeline_tag", "library", "gated", "sort", "direction", "limit", "cursor", "full",
     "cardData", "config", "expand", "expand[]")
)  # fmt: skip
_LONG: Final = ("siblings", "cardData", "config", "usedStorage")


def listing(request: Request) -> Response:
    """Every repo that this caller may know of and that fits all parameters; a parameter unknown here is refused."""
    unknown = sorted(set(request.query_params) - _KNOWN)
    if unknown:
        raise BadRequestFault(f"this server can't list by {', '.join(unknown)}; it can by {', '.join(sorted(_KNOWN))}")
    key, reverse = _order(request)
    items = sorted((item for item in _visible(request) if _fits(request, item)), key=lambda item: str(item["id"]))
    items.sort(key=lambda item: str(item.get(key, "")), reverse=reverse)
    rest = _after(items, key, reverse, cursor_of(request))
    size = page_size(request, hub_of(request).page_size)
    following = [str(rest[size - 1].get(key, "")), rest[size - 1]["id"]] if len(rest) > size else None
    return page_reply(request, [_shown(request, item) for item in rest[:size]], following)


def _visible(request: Request) -> Iterator[Item]:
    hub, caller = hub_of(request), caller_of(request)

    def seen(repo: Repo) -> Item | None:
        return describe(hub, repo, repo.resolve(MAIN)) if hub.access.may_see(repo, caller) else None

    return (item for item in hub.of_each(repo_type_of(request), seen) if item is not None)


def _fits(request: Request, item: Item) -> bool:
    asked = request.query_params
    wanted = [tag for given in asked.getlist("filter") for tag in given.split(",") if tag]
    wanted += [tag for name in ("pipeline_tag", "library") for tag in asked.getlist(name)]
    return (
        all(tag in item["tags"] for tag in wanted)
        and asked.get("author", item["author"]) == item["author"]
        and all(word in item["id"].lower() for word in asked.get("search", "").lower().split())
        and ("gated" not in asked or flag(request, "gated") == bool(item["gated"]))
    )


def _order(request: Request) -> tuple[str, bool]:
    key = request.query_params.get("sort", "lastModified")
    direction = request.query_params.get("direction", "1" if key == "id" else "-1")
    if key not in _SORTS or direction not in ("1", "-1"):
        known = ", ".join(_SORTS)
        raise BadRequestFault(f"sort: expected one of {known}, direction 1 or -1, found {key!r} {direction!r}")
    return key, direction == "-1"


def _after(items: list[Item], key: str, reverse: bool, cursor: Any) -> list[Item]:
    """What stands after the item a cursor names, also when that item is gone by now."""
    if cursor is None:
        return items
    if not (isinstance(cursor, list) and len(cursor) == 2 and all(isinstance(text, str) for text in cursor)):
        raise BadRequestFault("parameter cursor: expected one of this list")
    value, last = cursor

    def later(item: Item) -> bool:
        own = str(item.get(key, ""))
        return str(item["id"]) > last if own == value else (own < value) is reverse

    return [item for item in items if later(item)]


def _shown(request: Request, item: Item) -> Item:
    if "expand" in request.query_params or "expand[]" in request.query_params:
        return chosen(request, item)
    full = flag(request, "full")
    shown = {"siblings": full, "cardData": full or flag(request, "cardData"), "config": flag(request, "config")}
    return {name: value for name, value in item.items() if name not in _LONG or shown.get(name)}
