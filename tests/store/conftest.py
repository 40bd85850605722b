"""A shelf of files by hash, an empty store, and a stand-in for the plugin of the samples' method."""

from __future__ import annotations

from pathlib import Path

import pytest

import hubcli.plugins
from hubcli.hub.sources import Sources
from hubcli.installer import install_resolved
from hubcli.manifest import Installed
from hubcli.store import Store
from tests.store.samples import Shelf, ToyPlugins


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
