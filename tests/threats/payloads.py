"""Answers of servers that lie, for the weights and configs of `tests.support.adapters`."""

from __future__ import annotations

import threading

from tests.support.adapters import lora_files
from tests.support.hostile_server import Answer, Request, Send, reply

FILES = lora_files()
BIG = lora_files(hidden=100_000)
WEIGHTS = "adapter_model.safetensors"


def body_of(request: Request, files: dict[str, bytes] = FILES) -> bytes:
    """The file that a request asks for."""
    return files[request.path.rpartition("/")[2]]


def serve(files: dict[str, bytes] = FILES, **headers: str) -> Answer:
    """What a proper hub answers, with more headers."""
    return lambda request, send: send(reply(200, body_of(request, files), **headers))


def flipped(request: Request, send: Send) -> None:
    send(reply(200, body_of(request)[:-1] + b"?"))


def truncated(request: Request, send: Send) -> None:
    send(reply(200, body_of(request)[:5], Content_Length=str(len(body_of(request)))))


def shorter(request: Request, send: Send) -> None:
    send(reply(200, body_of(request)[:-1]))


def longer(request: Request, send: Send) -> None:
    send(reply(200, body_of(request) + b"x"))


def endless(request: Request, send: Send) -> None:
    send(reply(200, Transfer_Encoding="chunked"))
    for _ in range(1000):
        send(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def stalls(request: Request, send: Send) -> None:
    send(reply(200, body_of(request)[:3], Content_Length=str(len(body_of(request)))))
    threading.Event().wait(5)


def stalls_in_the_headers(request: Request, send: Send) -> None:
    send(b"HTTP/1.1 200 OK\r\n")
    threading.Event().wait(5)
