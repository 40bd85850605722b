"""Bodies that lie, stall, break off or change half way."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest

from hubcli.errors import HubcliError, NetworkError
from hubcli.hub.sources import Sources
from hubcli.installer import install_resolved
from hubcli.store import Store
from tests.store.faulty import BIG, CLIENTS, COMMIT, body_of, failing
from tests.store.samples import FILES, Shelf, safetensors, sha
from tests.support.hostile_server import Answer, Hostile, Request, Send, reply

pytestmark = pytest.mark.usefixtures("online")


def truncated(request: Request, send: Send) -> None:
    send(reply(200, body_of(request)[:5], Content_Length=str(len(body_of(request)))))


def lying_short(request: Request, send: Send) -> None:
    send(reply(200, body_of(request)[:-1]))


def longer(request: Request, send: Send) -> None:
    send(reply(200, body_of(request) + b"x"))


def longer_unannounced(request: Request, send: Send) -> None:
    body = body_of(request) + b"x" * 100
    send(reply(200, f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n", Transfer_Encoding="chunked"))


def endless(request: Request, send: Send) -> None:
    send(reply(200, Transfer_Encoding="chunked"))
    for _ in range(1000):
        send(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def flipped(request: Request, send: Send) -> None:
    send(reply(200, body_of(request)[:-1] + b"?"))


def stalls(request: Request, send: Send) -> None:
    send(reply(200, body_of(request)[:3], Content_Length=str(len(body_of(request)))))
    STOP.wait(20)


def stalls_in_headers(request: Request, send: Send) -> None:
    send(b"HTTP/1.1 200 OK\r\n")
    STOP.wait(20)


class Stop:
    """Waits without `time.sleep`, until the connection is torn down by the test's end."""

    def wait(self, seconds: float) -> None:
        import threading

        threading.Event().wait(seconds)


STOP = Stop()
SERVERS: dict[str, tuple[Answer, str]] = {
    "13 flipped": (flipped, "E_HASH"),
    "14 truncated": (truncated, "E_SIZE"),
    "14 length lies": (lying_short, "E_SIZE"),
    "14 longer": (longer, "E_SIZE"),
    "14 longer, chunked": (longer_unannounced, "E_SIZE"),
    "14 endless": (endless, "E_SIZE"),
    "14 stalls": (stalls, "E_TIMEOUT"),
    "14 stalls in the headers": (stalls_in_headers, "E_TIMEOUT"),
}


@pytest.mark.parametrize(("answer", "id"), SERVERS.values(), ids=SERVERS)
@pytest.mark.parametrize("through", ["hub", "mirror"])
def test_rows_13_and_14_bodies_that_lie(
    shelf: Shelf, store: Store, answer: Answer, id: str, through: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    watch_sizes(monkeypatch, written)
    for client in CLIENTS:
        monkeypatch.setattr(client, "__kwdefaults__", client.__kwdefaults__ | {"timeout": 0.3})
    start = time.monotonic()
    if through == "hub":
        error, _ = failing(shelf, store, answer)
    else:
        by_sha = {sha(data): name for name, data in FILES.items()}

        def mirrored(request: Request, send: Send) -> None:
            answer(Request(request.method, "/" + by_sha[request.path[1:]], request.headers), send)

        with Hostile(mirrored) as server, pytest.raises(HubcliError) as caught:
            resolved = dataclasses.replace(shelf.resolved(), file_roots=())
            install_resolved(resolved, store, Sources(mirrors=(server.url,)))
        error = caught.value
        assert not store.installed() and not list(store.layout.blobs.glob("*/*"))
    assert error.id == id
    assert max(written, default=0) <= max(len(data) for data in FILES.values()) + 1
    assert time.monotonic() - start < 10


def watch_sizes(monkeypatch: pytest.MonkeyPatch, written: list[int]) -> None:
    """Note how big every part file was when its transfer ended."""
    from hubcli.store.staging import Staging

    real = Staging._write

    def noted(self: Staging, part: Path, *rest: Any) -> str:
        try:
            return real(self, part, *rest)
        finally:
            written.append(part.stat().st_size)

    monkeypatch.setattr(Staging, "_write", noted)


def test_row_14_a_slow_drip_ends(shelf: Shelf, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then defeats a time limit on reads; the rate over the whole transfer does not."""
    now = [0.0]
    monkeypatch.setattr(CLIENTS[0], "__kwdefaults__", CLIENTS[0].__kwdefaults__ | {"clock": lambda: now[0]})

    def drip(request: Request, send: Send) -> None:
        send(reply(200, Content_Length=str(len(body_of(request)))))
        for byte in body_of(request):
            now[0] += 10
            send(bytes([byte]))
            STOP.wait(0.002)

    with Hostile(drip) as server:
        resolved = shelf.at_hub(server.url, commit=COMMIT)
        with pytest.raises(NetworkError) as caught:
            install_resolved(resolved, store, Sources())
    assert caught.value.id == "E_TIMEOUT"


RANGES = ["honoured", "ignored", "wrong offset", "etag changed", "part edited", "416"]


@pytest.mark.parametrize("kind", RANGES)
def test_row_15_a_kept_part_is_continued_or_the_file_starts_again(shelf: Shelf, store: Store, kind: str) -> None:
    """First run: interrupted after 2 MiB. Second run: whatever the server does, the hash comes out right."""
    etags = ["one"]

    def answer(request: Request, send: Send) -> None:
        start, etag = request.start, f'"{etags[-1]}"'
        if kind == "416" and start:
            return send(reply(416))
        if start and kind not in ("ignored",):
            at = start + 7 if kind == "wrong offset" else start
            given = f"bytes {at}-{len(BIG) - 1}/{len(BIG)}"
            return send(reply(206, BIG[at:], Content_Range=given, ETag=etag))
        return send(reply(200, BIG, ETag=etag))

    class Stopping:
        def start(self, file: str, size: int) -> None:
            self.seen = 0

        def advance(self, n: int) -> None:
            self.seen += n
            if self.seen >= 2 << 20:
                raise KeyboardInterrupt

        def done(self) -> None:
            pass

    files = {"adapter_model.safetensors": BIG}
    with Hostile(answer) as server:
        resolved = shelf.at_hub(server.url, files, commit=COMMIT)
        with pytest.raises(KeyboardInterrupt):
            install_resolved(resolved, store, Sources(), progress=Stopping())
        part = store.layout.partial / sha(BIG)
        kept = part.stat().st_size
        assert 1 << 20 <= kept < len(BIG) and part.read_bytes() == BIG[:kept]
        assert not store.installed() and not list(store.layout.tmp.glob("*@*"))
        if kind == "part edited":
            part.write_bytes(b"?" * kept)
        if kind == "etag changed":
            etags.append("two")
        done = install_resolved(resolved, store, Sources())
        ranges = [r.headers.get("range") for r in server.requests[1:]]
    assert store.verify(done).ok and not part.exists()
    assert ranges[0] == f"bytes={kept}-"
    assert len(ranges) == (1 if kind in ("honoured", "ignored", "etag changed") else 2)


@pytest.mark.parametrize("changes", [False, True], ids=["same", "changed"])
def test_row_15_a_connection_that_breaks_is_taken_up_again(shelf: Shelf, store: Store, changes: bool) -> None:
    """The server breaks its first answer off; where the file is another one afterwards, it starts again."""
    other = safetensors({"w": ("U8", [3 << 20], bytes(3 << 20))})

    def answer(request: Request, send: Send) -> None:
        first = len(server.requests) == 1
        etag = '"other"' if changes and first else '"right"'
        body, start = other if changes and first else BIG, request.start
        if request.headers.get("if-range", etag) != etag:
            start = 0
        rest = body[start:]
        sent = rest[: 2 << 20] if first else rest
        if start:
            return send(
                reply(
                    206,
                    sent,
                    Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}",
                    ETag=etag,
                    Content_Length=str(len(rest)),
                )
            )
        return send(reply(200, sent, ETag=etag, Content_Length=str(len(rest))))

    with Hostile(answer) as server:
        done = install_resolved(
            shelf.at_hub(server.url, {"adapter_model.safetensors": BIG}, commit=COMMIT), store, Sources()
        )
    assert store.verify(done).ok
    assert len(server.requests) == (3 if changes else 2)
