"""A small HTTP client for indexes and mirrors: GET alone, bounded in bytes, time, retries and redirects.

The standard library's, because a full client takes longer to import than the rest of a command. A token goes to
the origin it is bound to and nowhere else, also not across a redirect; no redirect leads from https to http;
proxies are those of the environment, and none stands before this machine itself.
"""

from __future__ import annotations

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, NoReturn, Self
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from hubcli._version import __version__
from hubcli.config import is_loopback, origin_of
from hubcli.errors import ContentError, HubcliError, NetworkError, NotFoundError, OfflineError, UsageError

TIMEOUT = 20.0
TRIES = 4
MAX_REDIRECTS = 5
MAX_WAIT = 30.0
GRACE = 30.0
MIN_RATE = 1024.0
CHUNK = 256 * 1024
_RETRIED = (408, 429, 500, 502, 503, 504)
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,200}"\Z')


class Response:
    """An answer being read: `status` (200, 206 or 304), `headers` by lower-case name, `url` after redirects.

    The body is read once, by `read` or `chunks`, and never beyond `max_bytes`; use it as a context manager.
    """

    def __init__(self, raw: Any, url: str, max_bytes: int, clock: Callable[[], float] = time.monotonic):
        self._raw: IO[bytes] = raw
        self._clock = clock
        self.status = int(raw.status)
        self.headers = {key.lower(): value for key, value in raw.headers.items()}
        self.url = url
        self.max_bytes = max_bytes

    @property
    def etag(self) -> str | None:
        """The ETag, if it has the form of one."""
        etag = self.headers.get("etag", "")
        return etag if _ETAG.match(etag) else None

    def read(self) -> bytes:
        """The whole body.

        Raises:
            ContentError, NetworkError: as `chunks`.
        """
        return b"".join(self.chunks())

    def chunks(self, size: int = CHUNK) -> Iterator[bytes]:
        """The body in pieces of at most `size` bytes.

        Raises:
            ContentError: E_SIZE, more than `max_bytes`, or fewer than the server said.
            NetworkError: E_TIMEOUT, no bytes for 20 s or fewer than 1 KiB/s; E_NETWORK, the connection broke.
        """
        stated = self._stated()
        start, got = self._clock(), 0
        while True:
            try:
                piece = self._raw.read1(min(size, self.max_bytes - got + 1))  # type: ignore[attr-defined]
            except (OSError, http.client.HTTPException) as error:
                raise _broken(error, self.url) from None
            got += len(piece)
            if got > self.max_bytes:
                raise self._wrong_size(f"at most {self.max_bytes} bytes", "more")
            if not piece:
                break
            yield piece
            spent = self._clock() - start
            if spent > GRACE and got < (spent - GRACE) * MIN_RATE:
                message = f"{_shown(self.url)} sends too slowly: {got} bytes in {spent:.0f} s"
                raise NetworkError(message, hint="try again later, or from a mirror", id="E_TIMEOUT")
        if stated is not None and got != stated:
            raise self._wrong_size(f"{stated} bytes", str(got))

    def _stated(self) -> int | None:
        """The length that the server says, refused at once where it is over the limit."""
        text = self.headers.get("content-length", "")
        if self.status == 304 or not text.isdecimal() or len(text) > 18:
            return None
        if int(text) > self.max_bytes:
            raise self._wrong_size(f"at most {self.max_bytes} bytes", text)
        return int(text)

    def _wrong_size(self, expected: str, found: str) -> ContentError:
        return ContentError(f"{_shown(self.url)}: expected {expected}, found {found}", id="E_SIZE")

    def close(self) -> None:
        """Close the connection."""
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves redirects to `Http`, which decides what may go along."""

    def http_error_302(self, *_: Any) -> None:
        """Neither followed nor looked at: the base class stumbles over a Location that is no URL."""

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302  # type: ignore[assignment]


class _Proxies(urllib.request.ProxyHandler):
    """The environment's proxies, which can't reach this machine's loopback: it is asked directly."""

    def proxy_open(self, request: urllib.request.Request, proxy: str, type: str) -> Any:
        """None where no proxy is to be asked."""
        local = is_loopback(origin_of(request.full_url))
        return None if local else super().proxy_open(request, proxy, type)


class Http:
    """The client.

    Args:
        tokens: origin (`https://host`, as `config.origin_of` writes it) → bearer token.
        offline: the switch that turns the network off, None when it is on.
        sleep, clock: waiting and a monotonic time, in seconds.
    """

    def __init__(
        self,
        tokens: Mapping[str, str] | None = None,
        offline: str | None = None,
        *,
        timeout: float = TIMEOUT,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._tokens = dict(tokens or {})
        self.offline = offline
        self._timeout = timeout
        self._sleep = sleep
        self._clock = clock
        self._opener = urllib.request.build_opener(_Proxies(), _NoRedirect())

    def get(self, url: str, headers: Mapping[str, str] | None = None, *, max_bytes: int) -> Response:
        """GET a URL; 429 and 5xx are tried again, redirects followed.

        Args:
            url: http(s), without credentials.
            headers: more request headers; they are sent to `url`'s origin alone.
            max_bytes: the most bytes of body that are read.

        Raises:
            OfflineError: the network is switched off.
            NotFoundError: 404.
            NetworkError: E_DENIED 401 403, E_GONE 410, E_RATE_LIMIT 429, E_TIMEOUT, E_NETWORK all else, and HTML.
        """
        if self.offline:
            message = f"{_shown(url)} is not on this machine, and the network is off"
            raise OfflineError(message, hint=f"unset {self.offline} to go online")
        own, url = origin_of(url), _escaped(url)
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._patiently(url, dict(headers or {}) if origin_of(url) == own else {})
            if answer.status not in (301, 302, 303, 307, 308):
                return Response(answer, url, max_bytes, self._clock)
            answer.close()
            url = _next(url, answer.headers.get("Location"))
        raise NetworkError(f"{_shown(url)}: more than {MAX_REDIRECTS} redirects")

    def _patiently(self, url: str, headers: dict[str, str]) -> Any:
        """One answer that is no error, after as many tries as it takes and is allowed."""
        for number in range(1, TRIES + 1):
            wait = 0.25 * 2**number * (0.5 + os.urandom(1)[0] / 256)
            try:
                answer = self._once(url, headers)
            except NetworkError as error:
                if number == TRIES or error.id == "E_TIMEOUT":
                    raise
            else:
                if answer.status < 400:
                    return _no_html(answer, url)
                answer.close()
                wait = _asked_wait(answer.headers) or wait
                if answer.status not in _RETRIED or number == TRIES or wait > MAX_WAIT:
                    _refused(answer.status, url, wait, self._denied_hint(url))
            self._sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _once(self, url: str, headers: dict[str, str]) -> Any:
        headers = {"User-Agent": f"hubcli/{__version__}", "Accept-Encoding": "identity", **headers}
        if token := self._token(url):
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(url, headers=headers)
        try:
            return self._opener.open(request, timeout=self._timeout)
        except urllib.error.HTTPError as error:
            return error
        except (OSError, http.client.HTTPException) as error:
            raise _broken(error, url) from None

    def _token(self, url: str) -> str | None:
        """The token bound to a URL's origin; over plain http to this machine alone."""
        origin = origin_of(url)
        return self._tokens.get(origin) if origin.startswith("https://") or is_loopback(origin) else None

    def _denied_hint(self, url: str) -> str:
        """What to do about a 401 or 403."""
        bind = "bind a token: hubcli index add NAME URL --token-env VAR"
        return "the token bound to it is not accepted" if self._token(url) else bind


def _shown(url: str) -> str:
    """A URL for messages: no query, which may be signed."""
    return ascii(url.partition("?")[0].partition("#")[0])[1:-1]


def _escaped(url: str, encoding: str = "utf-8") -> str:
    """A URL as it is sent: characters that none may have are escaped in path and query; what is escaped stays so."""
    parts = urlsplit(url)
    path, query = (
        quote(part, safe="%/:?[]@!$&'()*+,;=~", encoding=encoding, errors="replace")
        for part in (parts.path, parts.query)
    )
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def _next(url: str, location: str | None) -> str:
    try:
        target = _escaped(urljoin(url, location or ""), "latin-1")  # as headers are read
        origin_of(target)
    except ValueError as error:
        raise NetworkError(f"{_shown(url)} redirects to no http(s) URL", cause=ascii(str(error))[1:-1]) from None
    except UsageError as error:
        raise NetworkError(f"{_shown(url)} redirects to no http(s) URL", cause=error.message) from None
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
        raise NetworkError(f"{_shown(url)} redirects from https to http ({_shown(target)}): refused")
    return target


def _no_html(answer: Any, url: str) -> Any:
    if answer.status == 200 and answer.headers.get_content_type() == "text/html":
        answer.close()
        raise html_instead(url)
    return answer


def html_instead(url: str) -> NetworkError:
    """The error for a web page where data was asked for."""
    hint = "a login page or a captive portal seems to answer for the server: open the URL in a browser"
    return NetworkError(f"{_shown(url)}: expected data, found a web page", hint=hint)


def _asked_wait(headers: Any) -> float | None:
    """Seconds that the server asks to wait: `Retry-After`, or `t=` of `RateLimit`."""
    asked = (headers.get("Retry-After") or "").strip()
    if not asked:
        found = re.search(r"(?:^|[;,\s])t=(\d{1,6})(?:\D|\Z)", headers.get("RateLimit") or "")
        asked = found.group(1) if found else ""
    if re.fullmatch(r"[0-9]{1,6}", asked):
        return float(asked)
    if asked:
        from email.utils import parsedate_to_datetime

        try:
            return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
        except ValueError:
            return None
    return None


def _refused(status: int, url: str, wait: float, denied_hint: str) -> NoReturn:
    shown = _shown(url)
    if status in (401, 403):
        raise NetworkError(f"{shown}: access denied ({status})", hint=denied_hint, id="E_DENIED")
    if status == 404:
        raise NotFoundError(f"{shown}: not found (404)")
    if status == 410:
        raise NetworkError(f"{shown}: gone (410)", id="E_GONE")
    if status == 429:
        raise NetworkError(f"{shown}: too many requests (429)", hint=f"try again in {wait:.0f} s", id="E_RATE_LIMIT")
    raise NetworkError(f"{shown}: the server answers {status}", hint="try again later" if status >= 500 else None)


def _broken(error: Exception, url: str) -> HubcliError:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return NetworkError(f"{_shown(url)}: no answer in time", hint="try again, or use --offline", id="E_TIMEOUT")
    hint = "is the network up? --offline works from what is on this machine"
    return NetworkError(f"{_shown(url)} can't be reached", cause=ascii(str(reason))[1:-1][:200], hint=hint)
