"""What a hub says of a dataset repository: the commit of a branch, and the files of a commit. All of it is held to its form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from hubcli.errors import ContentError, EntryError, NotFoundError
from hubcli.frozen import frozen
from hubcli.hub.transport import COMMIT, HubHttp

MAX_INFO = 1024 * 1024
MAX_PAGE = 32 * 1024 * 1024
MAX_FILES = 1_000_000
_GIT_HASH = re.compile(r"[0-9a-f]{40}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_NEXT = re.compile(r'<([^<>]{1,4096})>\s*;\s*rel="next"')


@frozen
class TreeFile:
    """A file of a commit: its path, size in bytes, and `hash`: sha256 (64 hex) where the hub keeps it by LFS, else git's (40)."""

    path: str
    size: int
    hash: str


def commit_of(http: HubHttp, repo: str, revision: str) -> str:
    """The newest commit of a branch (or the one that a tag names): one request.

    Raises:
        NotFoundError: there is no such repository or revision. NetworkError: as `Http.get`.
        ContentError: E_BAD_HEADER, E_COMMIT: the hub names no commit, or another than was asked for.
    """
    where = f"{http.endpoint}/datasets/{repo}"
    url = f"{http.endpoint}/api/datasets/{quote(repo)}/revision/{quote(revision, safe='')}?expand=sha"
    try:
        with http.get(url, max_bytes=MAX_INFO) as response:
            info = _json(response.read(), where)
    except NotFoundError as error:
        hint = "check the name and the branch; a private repository needs a token (--token-env, or hf auth login)"
        raise NotFoundError(f"{http.endpoint} has no dataset {repo} at {revision}", hint=hint) from error
    commit = info.get("sha") if isinstance(info, dict) else None
    if not isinstance(commit, str) or not COMMIT.match(commit):
        raise ContentError(
            f"{where}: expected a commit of 40 hex digits, found {ascii(commit)[:80]}", id="E_BAD_HEADER"
        )
    if COMMIT.match(revision) and commit != revision:
        raise ContentError(f"{where}: asked for {revision}, the hub answers {commit}", id="E_COMMIT")
    return commit


def files_of(http: HubHttp, repo: str, commit: str) -> Iterator[TreeFile]:
    """All files of a commit, page by page.

    Raises:
        EntryError: a file without path, size or hash, or more files than an index has.
        NetworkError, NotFoundError: as `Http.get`.
    """
    where = f"{http.endpoint}/datasets/{repo}"
    first = f"{http.endpoint}/api/datasets/{quote(repo)}/tree/{commit}?recursive=true"
    url: str | None = first
    count = 0
    while url is not None:
        with http.get(url, max_bytes=MAX_PAGE) as response:
            page, link = _json(response.read(), where), response.headers.get("link", "")
        if not isinstance(page, list):
            raise EntryError(f"{where}: expected a list of files, found {type(page).__name__}")
        count += max(1, len(page))
        if count > MAX_FILES:
            raise EntryError(f"{where}: expected at most {MAX_FILES:,} files, found more")
        yield from (
            _file(item, where) for item in page if not isinstance(item, dict) or item.get("type") != "directory"
        )
        url = _following(first, link)


def _following(first: str, link: str) -> str | None:
    """The next page: the same address with the cursor that the hub names; where it points is not followed."""
    found = _NEXT.search(link)
    cursor = parse_qs(urlsplit(found[1]).query).get("cursor", [""])[0] if found else ""
    return f"{first}&cursor={quote(cursor, safe='')}" if cursor else None


def _file(item: Any, where: str) -> TreeFile:
    told = item if isinstance(item, dict) else {}
    path, size, lfs = told.get("path"), told.get("size"), told.get("lfs")
    found = lfs.get("oid") if isinstance(lfs, dict) else told.get("oid")
    form = _SHA256 if isinstance(lfs, dict) else _GIT_HASH
    if isinstance(lfs, dict):
        size = lfs.get("size")
    if (
        not isinstance(path, str)
        or type(size) is not int
        or size < 0
        or not (isinstance(found, str) and form.match(found))
    ):
        raise EntryError(f"{where}: expected files with path, size and hash, found {ascii(item)[:120]}")
    return TreeFile(path, size, found)


def _json(data: bytes, where: str) -> Any:
    """The hub's answer; what is taken from it is checked one by one."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise EntryError(f"{where}: the hub's answer is no JSON", id="E_JSON_SYNTAX") from None
