"""hubcli's own folders: any method in, the same out, and everything that is not right refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hubcli.adapted import adapt
from hubcli.errors import (
    BaseMismatchError,
    EntryError,
    HubcliError,
    IntegrityError,
    MethodNotFoundError,
    UnsupportedError,
    WeightsError,
)

from .models import inputs_of, logits, model_of, peft_adapter

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    base = model_of("bert")
    peft_adapter(base, tmp_path / "peft", "SEQ_CLS", r=2, lora_alpha=3, target_modules=["query"], lora_bias=True)
    handle = adapt(base, labels=["no", "yes"])
    handle.load(tmp_path / "peft", "a")
    handle.save("a", tmp_path / "own", format="hubcli")
    return tmp_path / "own"


def test_a_method_of_another_format_round_trips(saved: Path, tmp_path: Path) -> None:
    def answer(folder: Path) -> tuple[torch.Tensor, Any]:
        handle = adapt(model_of("bert"))
        handle.load(folder, "a")
        handle.activate("a")
        handle.save("a", tmp_path / "again", format="peft")
        return logits(handle.model, inputs_of("bert")), handle.adapters["a"]

    theirs, _ = answer(tmp_path / "peft")
    ours, info = answer(saved)
    assert torch.equal(ours, theirs) and info.labels == ("no", "yes") and info.heads == ("classifier",)
    again, original = (load_file(tmp_path / f / "adapter_model.safetensors") for f in ("again", "peft"))
    assert all(torch.equal(again[key], original[key]) for key in original) and set(again) == set(original)
    keys = set(load_file(saved / "adapter.safetensors"))
    assert {"classifier.weight", "bert.encoder.layer.0.attention.self.query.lora_A"} <= keys


def test_the_same_bytes_are_the_same_adapter(saved: Path) -> None:
    handle = adapt(model_of("bert"))
    assert handle.load(saved) == handle.load(saved) == "own"


Change = Callable[[dict[str, Any], dict[str, torch.Tensor]], Any]
BROKEN: dict[str, tuple[Change, type[HubcliError], str]] = {
    "another program's": (lambda m, t: m.pop("format"), UnsupportedError, "another program"),
    "newer": (lambda m, t: m.update(v=2), UnsupportedError, "expected v 1, found 2"),
    "no method": (lambda m, t: m.pop("method"), IntegrityError, "method: expected str"),
    "method unknown": (lambda m, t: m.update(method="lroa"), MethodNotFoundError, "lroa"),
    "config": (lambda m, t: m.update(config=[]), IntegrityError, "config: expected dict"),
    "base": (lambda m, t: m.update(base={"revision": "x"}), IntegrityError, r"base\.id"),
    "heads": (lambda m, t: m.update(heads=[1]), IntegrityError, "heads, labels and others"),
    "head without tensors": (lambda m, t: m.update(heads=["scorer"]), WeightsError, "scorer"),
    "head not named": (lambda m, t: m.update(heads=[]), WeightsError, "classifier"),
    "tensor unknown": (lambda m, t: t.update({"x.lora_A": torch.ones(2, 16)}), WeightsError, "doesn't name it"),
    "parameter unknown": (
        lambda m, t: t.update({"bert.encoder.layer.0.attention.self.query.other": torch.ones(2)}),
        WeightsError,
        "found .*other",
    ),
    "shape": (
        lambda m, t: t.update({"bert.encoder.layer.0.attention.self.query.lora_A": torch.ones(2, 17)}),
        BaseMismatchError,
        "lora_A has shape",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_refused(case: str, saved: Path) -> None:
    change, error, message = BROKEN[case]
    manifest, tensors = json.loads((saved / "manifest.json").read_text()), load_file(saved / "adapter.safetensors")
    change(manifest, tensors)
    (saved / "manifest.json").write_text(json.dumps(manifest))
    save_file(tensors, saved / "adapter.safetensors")
    handle = adapt(model_of("bert"))
    with pytest.raises(error, match=message):
        handle.load(saved)
    assert not handle.adapters


def test_files_that_are_missing_or_too_many(saved: Path, tmp_path: Path) -> None:
    handle = adapt(model_of("bert"))
    for foreign in ('{"somebody": "else"}', "no JSON", "[]"):
        (tmp_path / "peft" / "manifest.json").write_text(foreign)
        assert handle.load(tmp_path / "peft", "a") == "a"
    (saved / "adapter_config.json").write_text("{}")
    with pytest.raises(UnsupportedError, match="two adapters"):
        handle.load(saved, "b")
    (saved / "adapter_config.json").unlink()
    (saved / "adapter.safetensors").unlink()
    with pytest.raises(WeightsError, match="missing"):
        handle.load(saved, "b")
    (saved / "manifest.json").write_text('{"format": "hubcli", "format": "hubcli"}')
    with pytest.raises(EntryError, match="format"):
        handle.load(saved, "b")
