"""An index of our own, a hub that lies on demand, no waiting between tries, and an eye on every file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import hubcli.plugins
from hubcli import api
from hubcli.hub import ranged, transport
from hubcli.hub.sources import MemorySource
from tests.support.adapters import IndexFolder, lora_files
from tests.support.hostile_server import Answer, Hostile
from tests.support.hub_server import allow_loopback
from tests.threats.doors import Door, Outcome, footprint
from tests.threats.payloads import BIG

COMMIT = "c" * 40
REPO = {"repo": "acme/demo", "commit": COMMIT}


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Loopback alone; tries follow at once and give up soon; the working folder is empty; plugins are looked for anew, and
    again after the test."""
    allow_loopback(monkeypatch)
    monkeypatch.setattr(transport, "TIMEOUT", 0.5)
    for client in (transport.HubHttp, transport.Http):
        defaults = client.__init__.__kwdefaults__ | {"sleep": lambda _: None, "timeout": 0.5}
        monkeypatch.setattr(client.__init__, "__kwdefaults__", defaults)
    monkeypatch.setattr(ranged.open_ranged, "__defaults__", (0, lambda _: None))
    MemorySource._seen.clear()
    hubcli.plugins.plugins.cache_clear()
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    yield
    hubcli.plugins.plugins.cache_clear()


@pytest.fixture
def index(tmp_path: Path) -> IndexFolder:
    """A configured index folder named `acme`, empty."""
    folder = IndexFolder(tmp_path / "index")
    api.index_add("acme", str(folder.folder))
    return folder


@pytest.fixture
def refused(tmp_path: Path, home: Path) -> Callable[..., Outcome]:
    """Call a door and expect an error: nothing is created or changed anywhere, no adapter is installed."""

    def check(door: Door, id: str, code: int, command: str, *arguments: str, **options: Any) -> Outcome:
        before = footprint(tmp_path, home.parent)
        outcome = door(command, *arguments, **options)
        assert (outcome.id, outcome.code) == (id, code), outcome.text
        after = footprint(tmp_path, home.parent)
        kept = [path for path in after if code == 7 and "/partial/" in path]  # what came is kept for the next run
        assert {path: data for path, data in after.items() if path not in kept} == before
        assert api.list() == {"adapters": [], "problems": []}
        return outcome

    return check


@contextmanager
def hub_of(index: IndexFolder, answer: Answer, files: dict[str, bytes] | None = None) -> Iterator[Hostile]:
    """acme/demo 1.0.0 of the index lies on a hub that answers so; nothing else has its files."""
    files = files or lora_files()
    with Hostile(answer) as server:
        (index.folder / "_index.json").write_text(f'{{"endpoint": "{server.url}"}}')
        index.add("acme/demo", files=files, hub=REPO)
        for blob in (index.folder / "_files").iterdir():
            blob.unlink()
        yield server


def shared(index: IndexFolder, *names: str) -> None:
    """Adapters of 3 MB that share their weights, each with a card of its own."""
    for name in names:
        index.add(name, files=BIG | {"README.md": f"{name}\n".encode()})


def is_sound() -> None:
    assert api.verify()["ok"] and not api.list()["problems"]
