"""A static web server on loopback with ETags, a request log, an optional token, and faults to order."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Fault:
    """What one request gets instead of the file: a status, headers, another body, or the body cut after `cut` bytes.

    `hang_up` closes the connection without an answer. `times` requests get it (None: all).
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: int | None = None
    hang_up: bool = False
    times: int | None = 1


@dataclass
class Request:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0


class StaticServer:
    """Serves `root`; `requests` is the log, `faults` maps paths to what is to go wrong there."""

    def __init__(self, root: Path, token: str | None = None):
        self.root = root
        self.token = token
        self.requests: list[Request] = []
        self.faults: dict[str, Fault] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.url = self.origin + "/"

    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

            def do_GET(self) -> None:
                request = Request(self.path, {k.lower(): v for k, v in self.headers.items()})
                server.requests.append(request)
                server._answer(self, request)

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler, request: Request) -> None:
        fault = self._fault(request.path)
        if fault and fault.hang_up:
            handler.close_connection = True
            return
        file = self.root / request.path.lstrip("/")
        body = file.read_bytes() if file.is_file() else b"not found"
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        status, headers = (200 if file.is_file() else 404), {"ETag": etag}
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            status, body = 401, b"no"
        elif status == 200 and request.headers.get("if-none-match") == etag:
            status, body = 304, b""
        if fault:
            status, headers = fault.status, {**headers, **fault.headers}
            body = fault.body if fault.body is not None else body
        headers.setdefault("Content-Length", str(len(body)))
        body = body[: fault.cut] if fault and fault.cut is not None else body
        request.status, request.sent = status, len(body)
        handler.send_response(status)
        for key, value in headers.items():
            handler.send_header(key, value)
        handler.end_headers()
        if status != 304:
            handler.wfile.write(body)
        handler.close_connection = True

    def _fault(self, path: str) -> Fault | None:
        fault = self.faults.get(path)
        if fault is None:
            return None
        if fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                del self.faults[path]
        return fault

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serve(root: Path, token: str | None = None) -> Iterator[StaticServer]:
    """A running server over a folder."""
    server = StaticServer(root, token)
    server.start()
    try:
        yield server
    finally:
        server.stop()
