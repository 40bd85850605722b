"""A release of a few files, the folder that holds them by hash, and a stand-in for the plugin of its method."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hubcli.plugins
from hubcli.manifest import BaseModel, FileSpec, HubLocation, Release, Resolved

BASE = "acme/tiny"
ROLES = {".safetensors": "weights", ".json": "config", ".md": "card", "": "license"}


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]], metadata: dict[str, str] | None = None) -> bytes:
    """A file of the format, put together by hand."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    return with_header(json.dumps(header).encode(), data)


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


WEIGHTS = safetensors({"base_model.model.a.lora_A.weight": ("F32", [2, 3], struct.pack("<6f", *range(6)))})
CONFIG = {"peft_type": "LORA", "r": 2, "base_model_name_or_path": BASE, "target_modules": ["a"], "auto_mapping": None}
FILES = {
    "README.md": b"# demo\n",
    "adapter_config.json": json.dumps(CONFIG).encode(),
    "adapter_model.safetensors": WEIGHTS,
}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def spec(path: str, data: bytes, role: str | None = None) -> FileSpec:
    return FileSpec(path, len(data), sha(data), role or ROLES[Path(path).suffix])


def release(files: dict[str, bytes], version: str = "1.0.0", **fields: Any) -> Release:
    given: dict[str, Any] = {
        "license": "mit",
        "published": "2026-01-01T00:00:00Z",
        "method": "toy",
        "base": BaseModel(BASE),
    }
    return Release(version=version, files=tuple(spec(p, d) for p, d in files.items()), **(given | fields))


@dataclasses.dataclass
class Shelf:
    """A folder that holds files by hash, and releases made of them."""

    folder: Path

    def put(self, data: bytes, name: str | None = None) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / (name or sha(data))
        if name or not path.exists():
            path.write_bytes(data)
        return path

    def resolved(
        self, files: dict[str, bytes] = FILES, name: str = "test/demo", version: str = "1.0.0", **fields: Any
    ) -> Resolved:
        for data in files.values():
            self.put(data)
        made = release(files, version, **fields)
        return Resolved(name, version, name, made, index="main", description="a demo", file_roots=(str(self.folder),))

    def at_hub(
        self, endpoint: str, files: dict[str, bytes] = FILES, *, commit: str, repo: str = "acme/demo", **fields: Any
    ) -> Resolved:
        made = release(files, hub=HubLocation(repo, commit), **fields)
        return Resolved("test/demo", made.version, "test/demo", made, index="main", endpoint=endpoint)


class ToyPlugins:
    """One method, `toy`, that claims peft's LORA configs."""

    def __init__(self, schema: dict[str, Any] | None = None, check: str | None = None):
        self.schema, self.check = schema or {"type": "object"}, check

    def method(self, name: str) -> hubcli.plugins.MethodInfo:
        if name != "toy":
            raise hubcli.plugins.MethodNotFoundError(f"no plugin provides the method '{name}'")
        found = hubcli.plugins.Found("toy", "toy", "toy", "1")
        return hubcli.plugins.MethodInfo("toy", self.schema, "toy:Toy", found, self.check)

    def method_claiming(self, format: str, value: str, config: Any = None) -> hubcli.plugins.MethodInfo | None:
        return self.method("toy") if (format, value) == ("peft", "LORA") else None

    def call(self, kind: str, hook: str, **arguments: Any) -> Iterator[Any]:
        return iter(())


def everything_under(folder: Path) -> dict[str, bytes | None]:
    """Each path below a folder with its bytes; None for a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


SHARED = safetensors({"w": ("U8", [(2 << 20) + 3], bytes((2 << 20) + 3))})


def adapter(shelf: Shelf, name: str, version: str) -> Resolved:
    """A release of 2 MiB that shares its weights with every other, and has a card of its own."""
    return shelf.resolved(
        FILES | {"README.md": f"{name} {version}\n".encode(), "adapter_model.safetensors": SHARED}, name, version
    )
