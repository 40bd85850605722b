"""Every test has an empty home, no token, and no network but loopback."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
for _name in (
    "HF_TOKEN",
    "HF_ENDPOINT",
    "HUGGING_FACE_HUB_TOKEN",
    "HUBCLI_OFFLINE",
    "HUBCLI_DISABLE_PLUGINS",
    "HUBCLI_DEBUG",
):
    os.environ.pop(_name, None)

_connect = socket.socket.connect


def _loopback_only(self: socket.socket, address: object) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6):
        host = address[0] if isinstance(address, tuple) else address
        if host not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"a test tried to reach {host}: tests use loopback alone")
    _connect(self, address)  # type: ignore[arg-type]


socket.socket.connect = _loopback_only  # type: ignore[method-assign,assignment]


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty HUBCLI_HOME and HF_HOME of the test's own."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HUBCLI_HOME", str(folder / "hubcli"))
    monkeypatch.setenv("HF_HOME", str(folder / "hf"))
    yield folder / "hubcli"
