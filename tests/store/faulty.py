"""What the tests of faults share: calls that must fail and leave nothing, and servers that do wrong."""

from __future__ import annotations

from typing import Any

import pytest

from hubcli.errors import HubcliError
from hubcli.hub import transport
from hubcli.hub.sources import Sources
from hubcli.installer import install_resolved
from hubcli.store import Store
from tests.store.samples import FILES, Shelf, everything_under, safetensors
from tests.support.hostile_server import Answer, Hostile, Request, Send, reply

COMMIT = "c" * 40
BIG = safetensors({"w": ("U8", [3 << 20], bytes(range(256)) * (3 << 12))})


CLIENTS: list[Any] = [transport.HubHttp.__init__, transport.Http.__init__]


def raised(id: str, call: Any, *arguments: Any, **options: Any) -> HubcliError:
    with pytest.raises(HubcliError) as caught:
        call(*arguments, **options)
    assert caught.value.id == id, caught.value.message
    return caught.value


def refused(resolved: Any, store: Store, id: str, **options: Any) -> HubcliError:
    """Installing fails with this id, and the store has no file that was not there."""
    before = everything_under(store.path)
    with pytest.raises(HubcliError) as caught:
        install_resolved(resolved, store, Sources(), **options)
    assert caught.value.id == id, caught.value.message
    after = {
        p: d
        for p, d in everything_under(store.path).items()
        if d is not None and not p.endswith((".lock", "CACHEDIR.TAG"))
    }
    assert after == {p: d for p, d in before.items() if p in after}
    return caught.value


def failing(
    shelf: Shelf, store: Store, answer: Answer, files: dict[str, bytes] = FILES, **sources: Any
) -> tuple[HubcliError, Hostile]:
    """Installing from a hostile hub fails; no adapter, blob, or file elsewhere appears."""
    with Hostile(answer) as server:
        resolved = shelf.at_hub(server.url, files, commit=COMMIT)
        with pytest.raises(HubcliError) as caught:
            install_resolved(resolved, store, Sources(**sources))
    assert not store.installed() and not list(store.layout.blobs.glob("*/*"))
    assert not [p for p in store.layout.tmp.glob("*") if p.name != "CACHEDIR.TAG"]
    return caught.value, server


def serving(files: dict[str, bytes], **headers: str) -> Answer:
    def answer(request: Request, send: Send) -> None:
        send(reply(200, files[request.path.rpartition("/")[2]], **headers))

    return answer


def body_of(request: Request) -> bytes:
    return FILES[request.path.rpartition("/")[2]]
