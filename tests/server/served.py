"""What the live hub of these tests serves: the source files are the oracle."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import HfApi

from hubcli.server.repo import Repo
from tests.support.hub_server import LiveHub

TOKEN = "hub-token-for-tests"
CARD = "---\nlibrary_name: peft\nbase_model: acme/tiny\npipeline_tag: text-classification\nlicense: mit\n---\n# demo\n"
WEIGHTS, TEXT = "adapter_model.safetensors", "sub/ünï cødé.txt"

FIRST = {"README.md": CARD.encode(), "adapter_config.json": b'{"peft_type": "LORA", "r": 4}', TEXT: b"first\n"}
SECOND = {**FIRST, WEIGHTS: bytes(range(256)) * 8192, TEXT: b"second\n", "empty.txt": b""}


def write_tree(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def read_tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stored(hub: Path) -> dict[str, bytes]:
    """All that a hub keeps on disk but its locks."""
    return {name: content for name, content in read_tree(hub / ".hub").items() if not name.startswith("locks/")}


def content(repo: Repo, revision: str) -> dict[str, bytes]:
    """path -> bytes of a commit."""
    commit = repo.resolve(revision)
    return {path: repo.blob(commit, path)[1].read_bytes() for path in commit.files}


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


def ask(url: str, method: str, path: str, *, body: bytes | None = None, **headers: str) -> Reply:
    """One request with the path exactly as given, which no client library would send."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request(
            method, path, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        reply = connection.getresponse()
        return Reply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
    finally:
        connection.close()


@dataclass
class Served:
    """The hub and what is in it: `acme/demo` (v1, then main), `acme/secret`, `acme/gated`, the dataset `acme/rows`."""

    hub: LiveHub
    first: str
    second: str

    def api(self, token: str | bool = False) -> HfApi:
        return HfApi(endpoint=self.hub.url, token=token)

    def ask(self, method: str, path: str, *, body: bytes | None = None, **headers: str) -> Reply:
        return ask(self.hub.url, method, path, body=body, **headers)
