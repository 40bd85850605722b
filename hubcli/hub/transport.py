"""Requests to a hub, through huggingface_hub's own session, under the rules of `hubcli.http`."""

from __future__ import annotations

import http.client
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hubcli._version import __version__
from hubcli.config import DEFAULT_ENDPOINT, origin_of
from hubcli.errors import ContentError, NetworkError
from hubcli.http import TIMEOUT, Http

COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_ETAG = re.compile(r'(?:W/)?"?[A-Za-z0-9_.:+=-]{1,200}"?\Z')


def own_endpoint() -> str:
    """The person's own hub: `HF_ENDPOINT`, else the Hugging Face Hub."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def unless_public(endpoint: str) -> str | None:
    """A hub as locks and records name it: the Hugging Face Hub goes without saying."""
    return None if endpoint == DEFAULT_ENDPOINT else endpoint


class HubHttp(Http):
    """The client for one hub.

    Args:
        endpoint: the hub's URL; None takes the person's own.
        tokens: a token by origin, for hubs other than the person's own.
        token: the token for the person's own hub; None asks huggingface_hub, "" sends none.
        offline: the switch that turns the network off, None when it is on.
        commit: what `X-Repo-Commit` must say, where an answer has one.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        tokens: Mapping[str, str] | None = None,
        token: str | None = None,
        offline: str | None = None,
        commit: str | None = None,
        timeout: float = TIMEOUT,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__(tokens, offline, timeout=timeout, sleep=sleep, clock=clock)
        self.endpoint = (endpoint or own_endpoint()).rstrip("/")
        self.commit = commit
        self._own = origin_of(own_endpoint())
        self._token_given = token

    def _token(self, url: str) -> str | None:
        """The person's own token for their own hub, as huggingface_hub sends it; elsewhere what is bound there."""
        if origin_of(url) != self._own:
            return super()._token(url)
        if self._token_given is None:
            from huggingface_hub import constants, get_token

            self._token_given = "" if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token() or ""
        return self._token_given or None

    def _denied_hint(self, url: str) -> str:
        """As `Http._denied_hint`; the person's own hub takes the token that huggingface_hub takes."""
        if origin_of(url) != self._own:
            return super()._denied_hint(url)
        if self._token(url):
            return "the token (of HF_TOKEN or 'hf auth login') is not accepted, or has no right to this repository"
        return "set HF_TOKEN, or log in: hf auth login"

    def _once(self, url: str, headers: dict[str, str]) -> Any:
        import httpx2
        from huggingface_hub import get_session

        headers = {"User-Agent": _user_agent(), "Accept-Encoding": "identity", **headers}
        if token := self._token(url):
            headers["Authorization"] = f"Bearer {token}"
        session = get_session()
        try:
            request = session.build_request("GET", url, headers=headers, timeout=self._timeout)
            answer = _Answer(session.send(request, stream=True, follow_redirects=False))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise _unreachable(_as_os_error(error), url) from None
        try:
            self._check(answer.headers, url)
        except ContentError:
            answer.close()
            raise
        return answer

    def _check(self, headers: http.client.HTTPMessage, url: str) -> None:
        """Headers of the hub itself are held to their form: they are text from the other side."""
        if origin_of(url) != origin_of(self.endpoint):
            return
        commit = headers.get("X-Repo-Commit")
        if commit is not None and not COMMIT.match(commit):
            raise _bad(url, "X-Repo-Commit", "40 hex digits", commit)
        for name in ("ETag", "X-Linked-ETag"):
            text = headers.get(name)
            if text is not None and (not _ETAG.match(text) or ".." in text):
                raise _bad(url, name, "letters and digits", text)
        if commit is not None and self.commit is not None and commit != self.commit:
            where = ascii(url.partition("?")[0])[1:-1]
            raise ContentError(f"{where}: expected commit {self.commit}, the hub answers from {commit}", id="E_COMMIT")


def _bad(url: str, name: str, expected: str, found: str) -> ContentError:
    where = ascii(url.partition("?")[0])[1:-1]
    return ContentError(f"{where}: header {name}: expected {expected}, found {ascii(found)[:80]}", id="E_BAD_HEADER")


def _user_agent() -> str:
    """Ours and the client's version. `build_hf_headers` is not asked: it makes a request of its own to the endpoint."""
    from huggingface_hub import __version__ as client

    return f"hubcli/{__version__}; hf_hub/{client}"


def _as_os_error(error: Exception) -> OSError:
    import httpx2

    return TimeoutError() if isinstance(error, httpx2.TimeoutException) else ConnectionError(str(error))


def _unreachable(error: OSError, url: str) -> NetworkError:
    where = ascii(url.partition("?")[0])[1:-1]
    if isinstance(error, TimeoutError):
        return NetworkError(f"{where}: no answer in time", hint="try again, or use --offline", id="E_TIMEOUT")
    hint = "is the network up? --offline works from what is on this machine"
    return NetworkError(f"{where} can't be reached", cause=ascii(str(error))[1:-1][:200], hint=hint)


class _Answer:
    """An answer of the session in the form that `hubcli.http` reads."""

    def __init__(self, response: Any):
        self._response = response
        self._pieces: Iterator[bytes] | None = None
        self._rest = b""
        self.status: int = response.status_code
        self.headers = http.client.HTTPMessage()
        for name, value in response.headers.multi_items():
            self.headers[name] = value

    def read1(self, size: int) -> bytes:
        """At most `size` bytes as they arrive; b"" at the end, also where the connection closes early."""
        import httpx2

        if self._pieces is None:
            self._pieces = self._response.iter_raw()
        while not self._rest:
            try:
                self._rest = next(self._pieces)
            except StopIteration:
                return b""
            except httpx2.RemoteProtocolError:
                return b""
            except httpx2.HTTPError as error:
                raise _as_os_error(error) from None
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def close(self) -> None:
        """End the transfer."""
        self._response.close()
