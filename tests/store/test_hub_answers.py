"""Hubs that answer wrongly: headers, statuses, redirects; and where tokens go."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from hubcli.errors import HubcliError, NetworkError
from hubcli.hub import transport
from hubcli.hub.sources import Sources
from hubcli.installer import install_resolved
from hubcli.store import Store
from tests.store.faulty import CLIENTS, COMMIT, body_of, failing, serving
from tests.store.samples import FILES, Shelf, everything_under
from tests.support.hostile_server import Hostile, Request, Send, reply

pytestmark = pytest.mark.usefixtures("online")


HEADERS = {
    "2 etag a path": ({"ETag": '"../../../evil"'}, "E_BAD_HEADER"),
    "2 etag absolute": ({"ETag": "/etc/evil"}, "E_BAD_HEADER"),
    "2 linked etag": ({"X_Linked_ETag": '"..\\evil"'}, "E_BAD_HEADER"),
    "2 commit a path": ({"X_Repo_Commit": "../../evil"}, "E_BAD_HEADER"),
    "17 other commit": ({"X_Repo_Commit": "d" * 40}, "E_COMMIT"),
    "encoded": ({"Content_Encoding": "gzip"}, "E_BAD_HEADER"),
}


@pytest.mark.parametrize(("headers", "id"), HEADERS.values(), ids=HEADERS)
def test_rows_2_and_17_headers_are_text_from_the_other_side(
    shelf: Shelf, store: Store, headers: dict[str, str], id: str, tmp_path: Path
) -> None:
    before = everything_under(tmp_path)
    error, _ = failing(shelf, store, serving(FILES, **headers))
    assert error.id == id and everything_under(tmp_path) == before


STATUS = {
    401: "E_DENIED",
    403: "E_DENIED",
    404: "E_NOT_FOUND",
    410: "E_GONE",
    429: "E_RATE_LIMIT",
    500: "E_NETWORK",
    503: "E_NETWORK",
    418: "E_NETWORK",
}


@pytest.mark.parametrize("status", STATUS)
def test_row_55_each_status_has_its_own_id_and_tries_are_bounded(shelf: Shelf, store: Store, status: int) -> None:
    error, server = failing(shelf, store, lambda request, send: send(reply(status, b"no")))
    assert error.id == STATUS[status]
    assert len(server.requests) == (4 if status in (429, 500, 503) else 1)
    if status == 404:
        assert COMMIT in error.message and "gone" in str(error.hint)


def test_row_55_a_web_page_is_no_file(shelf: Shelf, store: Store) -> None:
    error, _ = failing(shelf, store, lambda r, send: send(reply(200, b"<html>login", Content_Type="text/html")))
    assert error.id == "E_NETWORK" and "page" in error.message


@pytest.mark.parametrize(
    "header", [{"Retry_After": "2"}, {"RateLimit": '"resolvers";r=0;t=2'}], ids=["Retry-After", "RateLimit"]
)
def test_row_55_a_busy_hub_is_waited_for(
    shelf: Shelf, store: Store, header: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(CLIENTS[0], "__kwdefaults__", CLIENTS[0].__kwdefaults__ | {"sleep": waited.append})
    seen: set[str] = set()

    def answer(request: Request, send: Send) -> None:
        first = request.path not in seen
        seen.add(request.path)
        send(reply(429, b"", **header) if first else reply(200, body_of(request)))

    with Hostile(answer) as server:
        done = install_resolved(shelf.at_hub(server.url, commit=COMMIT), store, Sources())
    assert store.verify(done).ok and waited == [2.0] * len(FILES)


SECRET, BOUND = "hf_person_secret", "team_secret"


def tokens_seen(server: Hostile) -> set[str]:
    return {r.headers.get("authorization", "").removeprefix("Bearer ") for r in server.requests}


@pytest.mark.parametrize("case", ["own", "named by an index", "bound", "own, redirects", "bound, redirects"])
def test_row_57_a_token_reaches_the_origin_it_is_bound_to_alone(
    shelf: Shelf, store: Store, case: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with Hostile(serving(FILES)) as cdn:

        def answer(request: Request, send: Send) -> None:
            if "redirects" in case:
                send(reply(302, Location=f"{cdn.url}{request.path}", X_Repo_Commit=COMMIT))
            else:
                send(reply(200, body_of(request)))

        with Hostile(answer) as server:
            monkeypatch.setenv("HF_ENDPOINT", server.url if "own" in case else "http://127.0.0.1:9")
            tokens = {server.url: BOUND} if "bound" in case else {}
            resolved = shelf.at_hub(server.url, commit=COMMIT)
            done = install_resolved(resolved, store, Sources(tokens=tokens))
            assert tokens_seen(server) == {SECRET if "own" in case else BOUND if "bound" in case else ""}
            assert tokens_seen(cdn) == ({""} if "redirects" in case else set())
    everything = b"".join(data or b"" for data in everything_under(store.path).values()).decode("latin-1")
    shown = "".join(capfd.readouterr()) + everything + repr(done)
    assert SECRET not in shown and BOUND not in shown


def test_row_38_no_token_in_the_errors_of_a_failing_hub(
    shelf: Shelf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)

    def answer(request: Request, send: Send) -> None:
        send(reply(403, request.headers["authorization"].encode()))

    with Hostile(answer) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        with pytest.raises(HubcliError) as caught:
            install_resolved(shelf.at_hub(server.url, commit=COMMIT), store, Sources())
    error = caught.value
    assert error.id == "E_DENIED" and SECRET not in f"{error} {error.cause} {error.hint} {error.__cause__}"


def test_row_38_https_never_becomes_http(monkeypatch: pytest.MonkeyPatch) -> None:
    http = transport.HubHttp("https://hub.example")
    asked: list[str] = []

    class Redirect:
        status = 302
        headers: ClassVar = {"Location": "http://hub.example/x"}

        def close(self) -> None:
            pass

    def once(self: Any, url: str, headers: dict[str, str]) -> Any:
        asked.append(url)
        return Redirect()

    monkeypatch.setattr(transport.HubHttp, "_once", once)
    with pytest.raises(NetworkError) as caught:
        http.get("https://hub.example/x", max_bytes=1)
    assert asked == ["https://hub.example/x"] and "https to http" in caught.value.message
