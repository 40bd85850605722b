"""A mirror: files by hash at `<URL>/<sha256>`."""

from __future__ import annotations

from collections.abc import Mapping

from hubcli.errors import NotFoundError
from hubcli.http import Http
from hubcli.hub.ranged import open_ranged
from hubcli.hub.sources import Stream
from hubcli.manifest import FileSpec, Resolved


class MirrorSource:
    """Files by hash over HTTP; without huggingface_hub, unless `http` is a client of its own."""

    def __init__(
        self, url: str, tokens: Mapping[str, str] | None = None, offline: str | None = None, http: Http | None = None
    ):
        self.url = url.rstrip("/")
        self.label = self.url
        self._http = http or Http(tokens, offline)

    def open(self, file: FileSpec, resolved: Resolved, offset: int = 0) -> Stream | None:
        """As `Source.open`."""
        if not file.sha256:
            return None
        try:
            return open_ranged(self._http, f"{self.url}/{file.sha256}", file.size, offset)
        except NotFoundError:
            return None
