"""One file over HTTP: one GET, continued with Range where the connection breaks or an earlier part is there."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hubcli.errors import ContentError, HubcliError, NetworkError
from hubcli.http import Http, Response
from hubcli.hub.sources import Stream

BREAKS = 3
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(?:\d{1,18}|\*)\Z")


Sleep = Callable[[float], None]


def open_ranged(http: Http, url: str, size: int, offset: int = 0, sleep: Sleep = time.sleep) -> Stream:
    """Start reading a file of `size` bytes, at `offset` if the server agrees, else at the front.

    Raises:
        HubcliError: as `Http.get`.
    """
    try:
        response = _get(http, url, size, offset)
    except NetworkError as error:
        if not offset or error.id != "E_NETWORK":
            raise
        offset = 0  # some servers refuse a Range that they can't serve
        response = _get(http, url, size, 0)
    if not (_continues(response, offset) if offset else response.status == 200):
        response = _from_front(http, url, size, response)
        offset = 0
    stream = Stream(iter(()), offset)
    stream.chunks = _Chunks(http, url, size, sleep).read(response, stream)
    return stream


def _get(http: Http, url: str, size: int, offset: int, etag: str | None = None) -> Response:
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    if offset and etag and not etag.startswith("W/"):
        headers["If-Range"] = etag
    response = http.get(url, headers, max_bytes=size)
    encoding = response.headers.get("content-encoding", "identity")
    if encoding not in ("", "identity"):
        response.close()
        raise ContentError(
            f"{_shown(url)}: expected bytes as they are, found them in {encoding[:20]!a}", id="E_BAD_HEADER"
        )
    return response


def _continues(response: Response, offset: int) -> bool:
    """Whether an answer holds the rest of the file from `offset` on."""
    found = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
    return response.status == 206 and found is not None and int(found[1]) == offset


def _from_front(http: Http, url: str, size: int, response: Response) -> Response:
    """The whole file: this answer, or another where this one is a part that nobody asked for."""
    if response.status == 200:
        return response
    response.close()
    response = _get(http, url, size, 0)
    if response.status != 200:
        response.close()
        raise ContentError(f"{_shown(url)}: expected the whole file, found a part of it", id="E_BAD_HEADER")
    return response


@dataclass(frozen=True, slots=True)
class _Chunks:
    """The bytes of one file up to its end; a connection that breaks is taken up again where it broke, a few times."""

    http: Http
    url: str
    size: int
    sleep: Sleep

    def read(self, response: Response, stream: Stream) -> Iterator[bytes]:
        at, breaks, etag = stream.offset, 0, response.etag
        while True:
            error: HubcliError | None = None
            with response:
                try:
                    for piece in response.chunks():
                        at += len(piece)
                        yield piece
                except (NetworkError, ContentError) as caught:
                    error = caught
            if error is None and at >= self.size:
                return
            breaks += 1
            slow = error is not None and error.id == "E_TIMEOUT"
            if slow or breaks > BREAKS or at > self.size:
                raise error or self._short(at, "it ended")
            self.sleep(0.25 * 2**breaks * (0.5 + os.urandom(1)[0] / 256))
            stream.resumed = True
            response = self._again(at, etag)

    def _again(self, at: int, etag: str | None) -> Response:
        response = _get(self.http, self.url, self.size, at, etag)
        if not _continues(response, at) or response.etag != etag:
            response.close()
            raise self._short(at, "it broke off, and can't be continued")
        return response

    def _short(self, at: int, why: str) -> ContentError:
        return ContentError(f"{_shown(self.url)}: expected {self.size:,} bytes, {why} at {at:,}", id="E_SIZE")


def _shown(url: str) -> str:
    return ascii(url.partition("?")[0])[1:-1]
