"""Fusions as entries: their files install like an adapter's, with the adapters that they were trained over."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.adapters import BASE_ID, IndexFolder, entry, release, safetensors_bytes
from tests.support.cli import hubcli
from tests.support.composed import compose, composed

PATH = "bert.encoder.layer.0.output.adapter_fusion_layer.one,two"
WEIGHTS = safetensors_bytes({f"{PATH}.{part}.weight": (8, 8) for part in ("query", "key", "value")}, 0.1)


def add_fusion(index: IndexFolder, **config: Any) -> None:
    """acme/mixer, a fusion of acme/one and acme/two as AdapterHub writes it."""
    settings = {
        "config": {"key": True, "query": True, "value": True},
        "name": "one,two",
        "model_class": "BertModel",
        **config,
    }
    files = {"adapter_fusion_config.json": json.dumps(settings).encode(), "model_adapter_fusion.safetensors": WEIGHTS}
    index.put(files)
    made = release(
        files, method=None, method_config={}, requires={"acme/one": "^1.0", "acme/two": "^1"}, base={"id": BASE_ID}
    )
    for spec in made["files"]:
        spec["role"] = "config" if spec["path"].endswith(".json") else "weights"
    index.write("acme/mixer", entry("acme/mixer", [made], kind="fusion"))


def test_a_fusion_installs_with_what_it_is_over(index: IndexFolder) -> None:
    add_fusion(index)
    fused = "fuse(acme/one, acme/two, by=acme/mixer)"
    compose(index, "acme/blend", composed(fused, dict.fromkeys(("acme/one", "acme/two", "acme/mixer"), "^1")))
    assert hubcli("index", "check", str(index.folder)).code == 0
    done = hubcli("install", "acme/blend", "--json").document["installed"]
    assert [(row["name"], row["version"], row["method"]) for row in done] == [
        ("acme/one", "1.1.0", "lora"),
        ("acme/two", "1.0.0", "lora"),
        ("acme/mixer", "1.0.0", "fusion"),
        ("acme/blend", "1.0.0", "composition"),
    ]
    assert hubcli("verify").code == 0
    hits = hubcli("search", "", "--method", "fusion", "--json").document["hits"]
    assert [hit["name"] for hit in hits if hit["name"].startswith("acme/")] == ["acme/mixer"]
    assert hubcli("info", "acme/mixer", "--json").document["kind"] == "fusion"
    assert hubcli("uninstall", "acme/mixer").code == 6


@pytest.mark.parametrize("key", ["trust_remote_code", "auto_map"])
def test_code_in_its_config_is_refused(key: str, index: IndexFolder) -> None:
    add_fusion(index, **{key: {"AutoModel": "evil.Model"}})
    failed = hubcli("install", "acme/mixer", "--json").document["failed"]
    assert failed[0]["error"]["id"] == "E_REMOTE_CODE"
    assert "acme/mixer" not in hubcli("list").out
