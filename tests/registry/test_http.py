"""The small HTTP client against a server that misbehaves (THREATS 14, 38, 55, 57)."""

from __future__ import annotations

import email.utils
import io
import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest

from hubcli.errors import HubcliError, NetworkError
from hubcli.http import MAX_WAIT, Http, Response
from tests.support.hostile_server import Hostile, Request, Send, reply
from tests.support.static_server import Fault, StaticServer, serve

BODY = b'{"a": 1}' * 100


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StaticServer]:
    (tmp_path / "a.json").write_bytes(BODY)
    with serve(tmp_path) as running:
        yield running


class Client(Http):
    """Waits are written down instead of slept."""

    def __init__(self, tokens: dict[str, str] | None = None, offline: str | None = None):
        self.waits: list[float] = []
        super().__init__(tokens, offline, sleep=self.waits.append, timeout=5)


def fetch(client: Http, url: str, limit: int = 10_000) -> bytes:
    with client.get(url, max_bytes=limit) as response:
        return response.read()


def refusal(client: Http, url: str, limit: int = 10_000) -> HubcliError:
    with pytest.raises(HubcliError) as error:
        fetch(client, url, limit)
    return error.value


def test_get_and_revalidate(server: StaticServer) -> None:
    with Client().get(server.url + "a.json", max_bytes=10_000) as response:
        assert response.read() == BODY
        etag = response.etag
    assert etag
    with Client().get(server.url + "a.json", {"If-None-Match": etag}, max_bytes=10_000) as response:
        assert response.status == 304 and response.read() == b""
    assert [request.status for request in server.requests] == [200, 304]


HEADERS_THAT_ARE_NONE = {
    "a length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\nabc",
    "a place beyond ASCII": b"HTTP/1.1 302 Found\r\nLocation: /caf\xc3\xa9 1\r\nContent-Length: 0\r\n\r\n",
    "a place that is no URL": b"HTTP/1.1 302 Found\r\nLocation: http://[x\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("case", HEADERS_THAT_ARE_NONE)
def test_row_55_headers_that_are_none_end_in_bytes_or_in_an_error_of_ours(case: str) -> None:
    def answer(request: Request, send: Send) -> None:
        send(HEADERS_THAT_ARE_NONE[case] if request.path == "/a" else reply(200, request.path.encode()))

    with Hostile(answer) as hostile:
        if case == "a place that is no URL":
            assert "redirects to no http(s) URL" in refusal(Client(), hostile.url + "/a").message
        else:
            expected = b"abc" if "length" in case else b"/caf%C3%A9%201"
            assert fetch(Client(), hostile.url + "/a") == expected
        assert fetch(Client(), hostile.url + "/caf\u00e9/%41?x=%2f") == b"/caf%C3%A9/%41?x=%2f"


@pytest.mark.parametrize("etag", ["x" * 9, '"../../x\t"', '"' + "x" * 300 + '"', ""])
def test_an_etag_that_is_none_is_not_kept(server: StaticServer, etag: str) -> None:
    server.faults["/a.json"] = Fault(headers={"ETag": etag})
    with Client().get(server.url + "a.json", max_bytes=10_000) as response:
        assert response.etag is None


@pytest.mark.parametrize(
    "status, id, requests",
    [
        (401, "E_DENIED", 1),
        (403, "E_DENIED", 1),
        (404, "E_NOT_FOUND", 1),
        (410, "E_GONE", 1),
        (418, "E_NETWORK", 1),
        (429, "E_RATE_LIMIT", 4),
        (500, "E_NETWORK", 4),
        (503, "E_NETWORK", 4),
    ],
)
def test_each_status_has_its_id_and_its_number_of_tries(
    server: StaticServer, status: int, id: str, requests: int
) -> None:
    server.faults["/a.json"] = Fault(status, times=None)
    client = Client()
    error = refusal(client, server.url + "a.json")
    assert error.id == id and len(server.requests) == requests
    assert error.exit_code == (3 if status == 404 else 7)
    assert len(client.waits) == requests - 1 and all(0 < wait <= MAX_WAIT for wait in client.waits)


def test_a_retry_succeeds_and_waits_differ(server: StaticServer) -> None:
    waits = set()
    for _ in range(4):
        server.faults["/a.json"] = Fault(503, times=2)
        client = Client()
        assert fetch(client, server.url + "a.json") == BODY
        assert client.waits[0] < client.waits[1] * 3
        waits.add(client.waits[0])
    assert len(waits) > 1


@pytest.mark.parametrize(
    "headers, wait",
    [
        ({"Retry-After": "7"}, 7),
        ({"RateLimit": '"api";r=0;t=9'}, 9),
        ({"Retry-After": "a date"}, 20),
    ],
)
def test_the_server_says_how_long_to_wait(server: StaticServer, headers: dict[str, str], wait: float) -> None:
    if headers.get("Retry-After") == "a date":
        headers = {"Retry-After": email.utils.formatdate(time.time() + wait, usegmt=True)}
    server.faults["/a.json"] = Fault(429, headers)
    client = Client()
    assert fetch(client, server.url + "a.json") == BODY
    assert client.waits == [pytest.approx(wait, abs=2)]


def test_a_long_wait_is_told_not_sat_out(server: StaticServer) -> None:
    server.faults["/a.json"] = Fault(429, {"Retry-After": "86400"}, times=None)
    client = Client()
    error = refusal(client, server.url + "a.json")
    assert (error.id, error.hint, client.waits) == ("E_RATE_LIMIT", "try again in 86400 s", [])


@pytest.mark.parametrize(
    "fault, id",
    [
        (Fault(cut=100), "E_SIZE"),
        (Fault(body=b"x" * 20_000), "E_SIZE"),
        (Fault(body=b"x" * 20_000, headers={"Content-Length": "10"}), None),
        (Fault(headers={"Content-Length": "900"}), "E_SIZE"),
        (Fault(headers={"Content-Type": "text/html; charset=utf-8"}, body=b"<html>log in"), "E_NETWORK"),
        (Fault(hang_up=True, times=None), "E_NETWORK"),
    ],
    ids=["cut", "longer than allowed", "longer than said", "shorter than said", "html", "hang up"],
)
def test_bodies_that_are_not_what_was_said(server: StaticServer, fault: Fault, id: str | None) -> None:
    server.faults["/a.json"] = fault
    if id is None:
        assert len(fetch(Client(), server.url + "a.json")) == 10
    else:
        assert refusal(Client(), server.url + "a.json").id == id


class Endless(io.RawIOBase):
    """A body without end; the clock of its test moves on with each read."""

    def __init__(self, step: int, seconds: float):
        self.status, self.headers, self.given = 200, Message(), 0
        self.step, self.seconds, self.now = step, seconds, 0.0

    def read1(self, size: int) -> bytes:
        self.now += self.seconds
        piece = b"x" * min(size, self.step)
        self.given += len(piece)
        return piece


def test_an_endless_body_is_read_to_the_limit_and_one_byte() -> None:
    body = Endless(1000, 0.0)
    with pytest.raises(HubcliError) as error:
        Response(body, "http://x/", 10_000, lambda: body.now).read()
    assert error.value.id == "E_SIZE" and body.given <= 10_001


def test_a_slow_drip_ends() -> None:
    body = Endless(1, 1.0)
    with pytest.raises(HubcliError) as error:
        Response(body, "http://x/", 10_000, lambda: body.now).read()
    assert error.value.id == "E_TIMEOUT" and body.now < 60


def test_a_token_reaches_its_origin_alone_also_across_redirects(server: StaticServer, tmp_path: Path) -> None:
    with serve(tmp_path) as other:
        client = Client({server.origin: "secret"})
        server.faults["/moved"] = Fault(302, {"Location": other.url + "a.json"})
        assert fetch(client, server.url + "moved") == BODY
        assert fetch(client, other.url + "a.json") == BODY
        assert server.requests[0].headers["authorization"] == "Bearer secret"
        assert len(other.requests) == 2 and not any("authorization" in request.headers for request in other.requests)


def test_own_headers_stay_with_their_origin(server: StaticServer, tmp_path: Path) -> None:
    with serve(tmp_path) as other:
        server.faults["/moved"] = Fault(307, {"Location": other.url + "a.json"})
        with Client().get(server.url + "moved", {"If-None-Match": '"x"'}, max_bytes=10_000) as response:
            assert response.url == other.url + "a.json"
        assert "if-none-match" not in other.requests[0].headers


def test_no_token_over_plain_http_but_to_this_machine() -> None:
    client = Http({"http://index.example": "secret", "https://index.example": "secret"})
    assert client._token("http://index.example/x") is None
    assert client._token("https://index.example:443/x") == "secret"
    assert client._token("https://index.example.evil.example/") is None


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://x/y", "http://u:p@127.0.0.1/", ""])
def test_redirects_that_are_not_followed(server: StaticServer, location: str) -> None:
    server.faults["/a.json"] = Fault(302, {"Location": location}, times=None)
    error = refusal(Client(), server.url + "a.json")
    assert error.id == "E_NETWORK" and "u:p" not in f"{error} {error.cause} {error.hint}"


def test_https_does_not_become_http() -> None:
    from hubcli.http import _next

    assert _next("https://a.example/x", "/y") == "https://a.example/y"
    with pytest.raises(NetworkError, match="from https to http"):
        _next("https://a.example/x", "http://a.example/x")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
def test_no_proxy_stands_before_this_machine(server: StaticServer, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Hostile(lambda request, send: send(reply(200, b"proxied"))) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        client = Client()
        assert fetch(client, server.url.replace("127.0.0.1", host) + "a.json") == BODY and not proxy.requests
        assert fetch(client, "http://index.example/a.json") == b"proxied"


def test_offline_names_the_switch(server: StaticServer) -> None:
    error = refusal(Client(offline="HF_HUB_OFFLINE"), server.url + "a.json")
    assert (error.id, error.exit_code) == ("E_OFFLINE", 7) and "HF_HUB_OFFLINE" in str(error.hint)
    assert not server.requests


def test_no_server(tmp_path: Path) -> None:
    with serve(tmp_path) as gone:
        url = gone.url
    client = Client()
    assert refusal(client, url + "a?token=secret").id == "E_NETWORK"
    assert "secret" not in str(refusal(client, url + "a?token=secret"))
