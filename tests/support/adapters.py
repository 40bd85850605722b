"""Small but real adapters and indexes, made without torch: peft-format LoRA folders, and index folders that hold them."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

BASE_ID = "acme/tiny-bert"


def safetensors_bytes(tensors: dict[str, tuple[int, ...]], fill: float) -> bytes:
    """A safetensors file of F32 tensors, every number `fill`."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in sorted(tensors.items()):
        size = 4
        for n in shape:
            size *= n
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + struct.pack("<f", fill) * (at // 4)


def lora_files(*, r: int = 2, hidden: int = 8, layers: int = 1, fill: float = 0.01, **config: Any) -> dict[str, bytes]:
    """The files of a peft LoRA folder on a BERT's query and value."""
    tensors: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        for module in ("query", "value"):
            path = f"base_model.model.bert.encoder.layer.{layer}.attention.self.{module}"
            tensors[f"{path}.lora_A.weight"] = (r, hidden)
            tensors[f"{path}.lora_B.weight"] = (hidden, r)
    document = {
        "base_model_name_or_path": BASE_ID, "bias": "none", "fan_in_fan_out": False, "inference_mode": True, "lora_alpha": 4,
        "lora_dropout": 0.0, "modules_to_save": None, "peft_type": "LORA", "r": r, "revision": None,
        "target_modules": ["query", "value"], "task_type": None, **config,
    }  # fmt: skip
    return {
        "README.md": f"---\nbase_model: {BASE_ID}\nlibrary_name: peft\n---\nfilled with {fill}\n".encode(),
        "adapter_config.json": json.dumps(document, indent=2, sort_keys=True).encode(),
        "adapter_model.safetensors": safetensors_bytes(tensors, fill),
    }


def release(files: dict[str, bytes], version: str = "1.0.0", **fields: Any) -> dict[str, Any]:
    """A release document for these files."""
    roles = {"README.md": "card", "adapter_config.json": "config"}
    listed = [
        {
            "path": path,
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "role": roles.get(path, "weights"),
        }
        for path, data in sorted(files.items())
    ]
    return {
        "version": version, "license": "apache-2.0", "published": "2026-01-02T03:04:05Z", "method": "lora",
        "method_config": {"r": 2, "lora_alpha": 4, "target_modules": ["query", "value"]},
        "base": {"id": BASE_ID, "revision": None, "architecture": "BertModel", "weights_sha256": None, "quantization": None},
        "task": "feature-extraction", "language": ["en"], "files": listed, "hub": None, "head": None, "metrics": [],
        "training": {}, "yanked": None, "status": "active", **fields,
    }  # fmt: skip


def entry(name: str, releases: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """An entry document."""
    return {
        "v": 1, "kind": "adapter", "name": name, "description": f"A test adapter called {name.split('/')[1]}.",
        "authors": [{"name": "Acme"}], "releases": releases, **fields,
    }  # fmt: skip


class IndexFolder:
    """An index folder under construction: entries, and the files by hash."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "_files").mkdir(parents=True, exist_ok=True)

    def add(self, name: str, *versions: str, files: dict[str, bytes] | None = None, **fields: Any) -> dict[str, Any]:
        """An entry with one release a version; each version's weights differ unless `files` are given."""
        releases = []
        for number, version in enumerate(versions or ("1.0.0",)):
            content = files or lora_files(fill=0.01 + number + len(name) / 1000)
            self.put(content)
            releases.append(release(content, version, **fields))
        document = entry(name, releases)
        self.write(name, document)
        return document

    def put(self, files: dict[str, bytes]) -> None:
        """Store files by hash."""
        for data in files.values():
            (self.folder / "_files" / hashlib.sha256(data).hexdigest()).write_bytes(data)

    def write(self, name: str, document: dict[str, Any]) -> Path:
        """Write an entry's file."""
        path = self.folder / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document, indent=2), encoding="utf-8")
        return path
