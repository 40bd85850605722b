"""Entries and index folders to test with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hubcli.config import IndexConfig
from hubcli.index.catalog import Catalog
from hubcli.resolver import Resolver

SHA = "ab" * 32
COMMIT = "cd" * 20


def release(version: str = "1.0.0", **changes: Any) -> dict[str, Any]:
    document = {
        "version": version,
        "license": "apache-2.0",
        "published": "2026-01-31T12:00:00Z",
        "method": "lora",
        "method_config": {"r": 8},
        "base": {"id": "acme/tiny", "revision": COMMIT, "architecture": "BertModel", "weights_sha256": SHA},
        "task": "text-classification",
        "language": ["en"],
        "files": [
            {"path": "adapter_config.json", "size": 10, "sha256": SHA, "role": "config"},
            {"path": "adapter_model.safetensors", "size": 20, "sha256": SHA, "role": "weights"},
        ],
        "hub": {"repo": "acme/legal", "commit": COMMIT},
        "head": {"labels": ["no", "yes"], "modules": ["classifier"]},
        "metrics": [{"name": "accuracy", "value": 0.9, "dataset": "films", "split": "test", "interval": [0.8, 1.0]}],
        "training": {"seed": 1},
        "yanked": None,
        "status": "active",
    }
    return {**document, **changes}


def yank(reason: str = "wrong labels", replacement: str | None = None) -> dict[str, Any]:
    return {"reason": reason, "date": "2026-02-01T00:00:00Z", "replacement": replacement}


def entry(name: str = "acme/legal", *releases: dict[str, Any], **changes: Any) -> dict[str, Any]:
    document = {
        "v": 1,
        "kind": "adapter",
        "name": name,
        "description": "Sums up contracts.",
        "authors": [{"name": "Ada"}],
        "releases": list(releases) or [release()],
    }
    return {**document, **changes}


def dump(document: Any) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def write(folder: Path, *documents: dict[str, Any]) -> Path:
    """Entries as files of an index folder."""
    for document in documents:
        file = folder / f"{document['name']}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(dump(document))
    return folder


def index(folder: Path, name: str, *documents: dict[str, Any], scopes: tuple[str, ...] = ()) -> Catalog:
    return Catalog(IndexConfig(name, str(write(folder / name, *documents)), scopes=scopes))


def resolver(*indexes: Any) -> Resolver:
    return Resolver(indexes)
