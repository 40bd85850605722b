"""A server on loopback that answers exactly what a test says, byte for byte: for faults that no proper server makes.

def answer(request, send):
    send(reply(200, b"too short", **{"Content-Length": "99"}))

with Hostile(answer) as server:
    server.url, server.requests
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

REASONS = {200: "OK", 206: "Partial Content", 302: "Found", 307: "Temporary Redirect"}


@dataclass
class Request:
    """One request as it came; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def start(self) -> int:
        """Where a Range request wants to begin; 0 without one."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-") or 0)


Send = Callable[[bytes], None]
Answer = Callable[[Request, Send], None]


def reply(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A whole response; underscores in header names stand for dashes. Content-Length is the body's unless given."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if "Content-Length" not in given and "Transfer-Encoding" not in given:
        given["Content-Length"] = str(len(body))
    lines = [
        f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}",
        *(f"{n}: {v}" for n, v in given.items()),
        "Connection: close",
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class Hostile:
    """The server, between `with` and its end; every connection carries one request."""

    def __init__(self, answer: Answer):
        self.answer = answer
        self.requests: list[Request] = []
        self.stopping = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)

    def _serve(self) -> None:
        while not self.stopping.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        self._open.add(connection)
        with contextlib.suppress(OSError), connection:
            head = b""
            while b"\r\n\r\n" not in head:
                data = connection.recv(65536)
                if not data:
                    return
                head += data
            line, *fields = head.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
            method, path, _ = line.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in fields)}
            request = Request(method, path, headers)
            self.requests.append(request)
            self.answer(request, connection.sendall)
        self._open.discard(connection)
