"""A hub on loopback that takes pushes, and an adapter's folder to push."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.publish import driver
from tests.publish.hubs import TOKEN, Wire, go_online
from tests.publish.pushed import IDENTITY
from tests.support.adapters import lora_files
from tests.support.hub_server import LiveHub


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def hub(tmp_path: Path, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveHub]:
    with LiveHub(tmp_path / "hub", token=TOKEN, wrap=wire.wrap) as hub:
        go_online(monkeypatch, hub)
        for name, value in IDENTITY.items():
            monkeypatch.setenv(name, value)
        driver.install(monkeypatch)
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An adapter's folder."""
    (tmp_path / "films").mkdir()
    for path, data in lora_files().items():
        (tmp_path / "films" / path).write_bytes(data)
    return tmp_path / "films"
