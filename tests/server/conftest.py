"""One live hub with three repos for all tests that only read, and the source folders as the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from tests.support.hub_server import LiveHub, allow_loopback

TOKEN = "hub-token-for-tests"
CARD = "---\nlibrary_name: peft\nbase_model: acme/tiny\npipeline_tag: text-classification\nlicense: mit\n---\n# demo\n"


def write_tree(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


FIRST = {
    "README.md": CARD.encode(),
    "adapter_config.json": b'{"peft_type": "LORA", "r": 4}',
    "sub/ünï cødé.txt": b"first\n",
}
SECOND = {
    **FIRST,
    "adapter_model.safetensors": bytes(range(256)) * 8192,
    "sub/ünï cødé.txt": b"second\n",
    "empty.txt": b"",
}


@dataclass
class Served:
    """The hub and what is in it: `acme/demo` (v1, then main), `acme/secret`, `acme/gated`, the dataset `acme/rows`."""

    hub: LiveHub
    first: str
    second: str

    def api(self, token: str | bool = False) -> HfApi:
        return HfApi(endpoint=self.hub.url, token=token)


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
def served(live: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    allow_loopback(monkeypatch)
    live.hub.log.clear()
    return live


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Any:
    allow_loopback(monkeypatch)
