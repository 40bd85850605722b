"""A store in a temporary home folder with adapters installed from an index folder, as anyone would have them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BASE, GROUP = "bench/bert-base", "bench"
FILES = {"adapter_config.json": "config", "adapter_model.safetensors": "weights"}


def install(home: Path, folders: Mapping[str, Path]) -> dict[str, str]:
    """Install peft's LoRA folders from an index made of them; this process uses the home folder from now on.

    Returns:
        A ref for each name.
    """
    import hubcli.api

    index = home / "index"
    (index / "_files").mkdir(parents=True)
    (index / GROUP).mkdir()
    for name, folder in folders.items():
        files = {path: (folder / path).read_bytes() for path in FILES}
        for data in files.values():
            (index / "_files" / hashlib.sha256(data).hexdigest()).write_bytes(data)
        (index / GROUP / f"{name}.json").write_text(json.dumps(_entry(name, files)), encoding="utf-8")
    os.environ |= {"HUBCLI_HOME": str(home / "hubcli"), "HUBCLI_INDEXES": f"bench={index}", "HUBCLI_OFFLINE": "1"}
    refs = {name: f"{GROUP}/{name}" for name in folders}
    failed = hubcli.api.install(*refs.values())["failed"]
    if failed:
        raise RuntimeError(f"not installed: {failed}")
    return refs


def _entry(name: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    listed = [
        {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "role": FILES[path]}
        for path, data in files.items()
    ]
    config = json.loads(files["adapter_config.json"])
    release = {
        "version": "1.0.0", "license": "apache-2.0", "published": "2026-01-02T03:04:05Z", "method": "lora",
        "method_config": {key: config[key] for key in ("r", "lora_alpha", "target_modules")}, "files": listed,
        "base": {"id": BASE, "revision": None, "architecture": "BertModel", "weights_sha256": None, "quantization": None},
        "task": "feature-extraction", "language": ["en"], "hub": None, "head": None, "metrics": [], "training": {},
        "yanked": None, "status": "active",
    }  # fmt: skip
    return {
        "v": 1, "kind": "adapter", "name": f"{GROUP}/{name}", "description": "Random LoRA.",
        "authors": [{"name": "bench"}], "releases": [release],
    }  # fmt: skip
