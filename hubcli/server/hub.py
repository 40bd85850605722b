"""What every handler starts from: the store, who is asking, and the repo and commit they ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TypeVar, cast
from urllib.parse import unquote

from starlette.requests import Request

from hubcli.errors import IntegrityError
from hubcli.server.access import Access, Caller
from hubcli.server.card import Card, read_card
from hubcli.server.faults import BadRequestFault, RepoMissing, RevisionMissing
from hubcli.server.limits import Limits
from hubcli.server.names import check_path
from hubcli.server.objects import Commit
from hubcli.server.replies import log, text_line
from hubcli.server.repo import MAIN, Repo
from hubcli.server.repos import RepoStore

T = TypeVar("T")
_CARDS = 20_000


class Hub:
    """One served folder. `page_size` is the most items a page has."""

    def __init__(self, store: RepoStore, access: Access, limits: Limits, page_size: int):
        self.store, self.access, self.limits, self.page_size = store, access, limits, page_size
        self._card = lru_cache(maxsize=_CARDS)(self._read_card)

    def of_each(self, repo_type: str, read: Callable[[Repo], T]) -> Iterator[T]:
        """What `read` says of every repo of a type.

        One that goes meanwhile, or has no commit yet, is left out; so is a damaged one, which the log names.
        """
        for repo in self.store.repos(repo_type):
            try:
                found = read(repo)
            except (RepoMissing, RevisionMissing):
                continue
            except (IntegrityError, PermissionError) as error:
                log.error("left out of a list: %s", text_line(f"{repo.path}: {error}"))
            else:
                yield found

    def card(self, commit: Commit) -> Card:
        """The card of a commit, read once."""
        wanted = (commit.files.get("README.md"), commit.files.get("adapter_config.json"))
        return self._card(*(entry.sha256 if entry else None for entry in wanted))

    def _read_card(self, readme: str | None, config: str | None) -> Card:
        hashes = {"README.md": readme, "adapter_config.json": config}

        def read(path: str, limit: int) -> bytes | None:
            sha256 = hashes[path]
            return self.store.blobs.head(sha256, limit) if sha256 else None

        return read_card(read)


def hub_of(request: Request) -> Hub:
    """The hub this request is for."""
    return cast(Hub, request.app.state.hub)


def caller_of(request: Request) -> Caller:
    """Who is asking."""
    return hub_of(request).access.caller(request.headers.get("authorization"))


def part(request: Request, name: str) -> str:
    """A part of the path, decoded. Routes see the path as it was sent, so that a coded '/' stays inside its part."""
    try:
        return unquote(request.path_params[name], errors="strict")
    except UnicodeDecodeError:
        raise BadRequestFault(f"{name}: expected UTF-8") from None


def repo_type_of(request: Request) -> str:
    """`model` or `dataset`, from `models` or `datasets` in the path; the download path of a model has neither."""
    return cast(str, request.path_params.get("types", "models")).removesuffix("s")


def repo_of(request: Request) -> Repo:
    """The repo asked for, if this caller may know of it."""
    hub = hub_of(request)
    return hub.access.find(hub.store, repo_type_of(request), part(request, "repo"), caller_of(request))


def commit_of(request: Request, repo: Repo) -> Commit:
    """The commit asked for; main's newest where no revision is given."""
    return repo.resolve(part(request, "revision") if "revision" in request.path_params else MAIN)


def path_of(request: Request) -> str:
    """The file or folder asked for, '' for the root."""
    path = part(request, "path") if "path" in request.path_params else ""
    return check_path(path) if path else ""
