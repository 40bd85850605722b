"""The Hugging Face Hub, or a server like it, at a pinned commit."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from hubcli.errors import EntryError, NotFoundError
from hubcli.hub.ranged import open_ranged
from hubcli.hub.sources import Stream
from hubcli.hub.transport import COMMIT, HubHttp
from hubcli.manifest import FileSpec, Resolved


class HubSource:
    """Files of a repository at the commit that the release pins: one streamed GET a file."""

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        tokens: Mapping[str, str] | None = None,
        token: str | None = None,
        offline: str | None = None,
    ):
        self._http = HubHttp(endpoint, tokens=tokens, token=token, offline=offline)
        self.label = self._http.endpoint

    def open(self, file: FileSpec, resolved: Resolved, offset: int = 0) -> Stream | None:
        """As `Source.open`.

        Raises:
            EntryError: the pinned commit is no commit.
            NotFoundError: the hub has no such repository, commit or file (any more).
        """
        location = resolved.release.hub
        if location is None:
            return None
        if not COMMIT.match(location.commit):
            raise EntryError(f"{resolved.name}: hub.commit: expected 40 hex digits, found {location.commit[:80]!a}")
        self._http.commit = location.commit
        url = file_url(self._http.endpoint, location.repo, location.commit, file.path)
        try:
            return open_ranged(self._http, url, file.size, offset)
        except NotFoundError as error:
            raise NotFoundError(
                f"{self.label}: {location.repo} has no {file.path} at commit {location.commit} (404)",
                hint="the repository may be gone, renamed or private; a mirror or the cache that has the file can still serve it",
            ) from error


def file_url(endpoint: str, repo: str, revision: str, path: str) -> str:
    """Where a hub serves a file; the same as `huggingface_hub.hf_hub_url`, for any endpoint."""
    return f"{endpoint}/{quote(repo)}/resolve/{quote(revision, safe='')}/{quote(path)}"
