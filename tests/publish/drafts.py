"""Small but real adapters to draft releases of, made by peft; an index that holds a draft; a hub's cache with a tiny base."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from hubcli.api.drafting import draft
from hubcli.publishing.draft import Draft
from tests.support import trainable
from tests.support.adapters import IndexFolder

BASE_ID, COMMIT = "acme/tiny-bert", "c" * 40
NAME, VERSION = "acme/reviews", "1.0.0"
SAID: dict[str, Any] = {"license": "mit", "description": "Reviews, good or bad.", "authors": ["Ann Author"]}


def cached(base: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, id: str = BASE_ID) -> str:
    """Put a base's folder into a cache of huggingface_hub's as if it came from the hub; its id."""
    from huggingface_hub import constants

    repo = cache / f"models--{id.replace('/', '--')}"
    if not repo.exists():
        shutil.copytree(base, repo / "snapshots" / COMMIT)
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text(COMMIT)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(constants, name, str(cache), raising=False)
        monkeypatch.setenv(name, str(cache))
    return id


def lora(base: Path, folder: Path, *, stated: str | None = BASE_ID, **config: Any) -> Path:
    """A LoRA with a head for two classes, as peft saves it; `stated` is the base that its config names."""
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    options = {
        "task_type": "SEQ_CLS",
        "r": 2,
        "target_modules": ["query", "value"],
        "init_lora_weights": False,
        **config,
    }
    return _saved(get_peft_model(model, LoraConfig(**options)), folder, stated)


def prefix(base: Path, folder: Path, *, stated: str | None = BASE_ID) -> Path:
    """A prefix for a language model, as peft saves it."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base)
    return _saved(
        get_peft_model(model, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)), folder, stated
    )


def _saved(model: Any, folder: Path, stated: str | None) -> Path:
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    if stated is not None:
        edit(folder / "adapter_config.json", base_model_name_or_path=stated)
    return folder


def edit(file: Path, **values: Any) -> None:
    """Change keys of a JSON file."""
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, **values}))


def drafted(folder: Path, **more: Any) -> Draft:
    """A draft with all that has to be said."""
    notes = more.pop("warn", lambda _: None)
    return draft(folder, **{"name": NAME, "version": VERSION, **SAID, "warn": notes, **more})


def written(found: Draft, folder: Path) -> Path:
    """The files of a draft in a folder, as a hub would have them."""
    folder.mkdir(parents=True)
    for file in found.files:
        raw = file.data if file.data is not None else file.source.read_bytes() if file.source else b""
        assert (len(raw), hashlib.sha256(raw).hexdigest()) == (file.size, file.sha256)
        (folder / file.path).write_bytes(raw)
    return folder


def indexed(found: Draft, folder: Path) -> Path:
    """An index folder that holds a draft and the bytes of its files."""
    index = IndexFolder(folder)
    index.put({f.path: f.data if f.data is not None else f.source.read_bytes() for f in found.files})  # type: ignore[union-attr]
    release = found.published("acme/reviews", COMMIT, "2026-01-02T03:04:05Z")
    index.write(found.name, found.entry(release).to_json())
    return folder


def base(folder: Path, family: str = "bert") -> Path:
    """A tiny base."""
    return trainable.base(folder, family)
