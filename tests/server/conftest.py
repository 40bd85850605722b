"""One live hub for all tests that only read; an empty root and folders to import for those that write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.served import FIRST, SECOND, TOKEN, Served, write_tree
from tests.support.hub_server import LiveHub, allow_loopback


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("live")
    one, two = write_tree(root / "one", FIRST), write_tree(root / "two", SECOND)
    with LiveHub(root / "hub", token=TOKEN) as hub:
        first = hub.import_folder("acme/demo", one, tag="v1", message="first\n\nthe beginning")
        second = hub.import_folder("acme/demo", two, message="second")
        hub.import_folder("acme/secret", one, private=True)
        hub.import_folder("acme/gated", one, gated=True)
        hub.import_folder("acme/rows", one, repo_type="dataset")
        yield Served(hub, first, second)


@pytest.fixture
def served(live: Served, online: None) -> Served:
    live.hub.log.clear()
    return live


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client in this process may talk to a hub on this machine."""
    allow_loopback(monkeypatch)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    (tmp_path / "hub").mkdir()
    return tmp_path / "hub"


@pytest.fixture
def sources(tmp_path: Path) -> None:
    """The folders `one` and `two` of the test's own, with the files `FIRST` and `SECOND`."""
    write_tree(tmp_path / "one", FIRST)
    write_tree(tmp_path / "two", SECOND)
