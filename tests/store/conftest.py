"""A shelf of files by hash, an empty store, and a stand-in for the plugin of the samples' method."""

from __future__ import annotations

from pathlib import Path

import pytest

import hubcli.plugins
from hubcli.hub import ranged
from hubcli.hub.sources import MemorySource, Sources
from hubcli.installer import install_resolved
from hubcli.manifest import Installed
from hubcli.store import Store
from tests.store.faulty import CLIENTS
from tests.store.samples import Shelf, ToyPlugins
from tests.support.hub_server import allow_loopback


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> ToyPlugins:
    plugins = ToyPlugins()
    monkeypatch.setattr(hubcli.plugins, "plugins", lambda: plugins)
    return plugins


@pytest.fixture
def installed(shelf: Shelf, store: Store) -> Installed:
    return install_resolved(shelf.resolved(), store, Sources())


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback alone, no waiting between tries, small time limits."""
    allow_loopback(monkeypatch)
    for client in CLIENTS:
        monkeypatch.setattr(client, "__kwdefaults__", client.__kwdefaults__ | {"sleep": lambda _: None})
    monkeypatch.setattr(ranged.open_ranged, "__defaults__", (0, lambda _: None))
    MemorySource._seen.clear()
