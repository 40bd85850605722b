"""qlora's files are LoRA's: which method reads them, on which base, and what is said of a base that differs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hubcli.adapted import adapt
from hubcli.composition import Average, Expr, Stack
from hubcli.errors import AdapterError
from hubcli.manifest import BaseModel, Installed, Record, Release
from hubcli.plugins import plugins

from .conftest import Quantised, logits


def release(folder: Path, method: str, quantization: dict[str, str] | None) -> Installed:
    base = BaseModel("acme/tiny", None, "BertModel", None, quantization)
    made = Release("1.0.0", "mit", "2026-01-02T03:04:05Z", method=method, base=base, task="text-classification")
    return Installed(Record(1, "acme/mood", "1.0.0", "acme/mood", "acme", "adapter", "", made), str(folder))


def test_peft_files_are_loras_unless_a_release_says_qlora() -> None:
    found = plugins().method_claiming("peft", "LORA")
    assert found is not None and found.name == "lora"


@pytest.mark.parametrize("quantize", ["nf4", None])
@pytest.mark.parametrize("stated", ["nf4", None])
def test_a_release_of_qlora(stated: str | None, quantize: str | None, quantised: Quantised, peft_folder: Path) -> None:
    handle, other = quantised(quantize), quantised(quantize)
    handle.locate = lambda ref: release(peft_folder, "qlora", {"method": stated} if stated else None)
    handle.load("acme/mood", "a", allow_base_mismatch=True)
    other.load(peft_folder, "a")
    for each in (handle, other):
        each.activate("a")
    assert torch.equal(logits(handle.model), logits(other.model))
    info = handle.adapters["a"]
    assert info.method == "qlora" and other.adapters["a"].method == "lora"
    said = [note for note in info.notes if "made for" in note]
    expected = {("nf4", None): "this one is in full precision", (None, "nf4"): "no quantised base that it names"}
    wanted = expected.get((stated, quantize))
    assert [wanted in note for note in said] == ([True] if wanted else []), said


def test_a_qlora_and_a_lora_compose(quantised: Quantised, peft_folder: Path) -> None:
    """The same tensors under both methods: any mix of the two is what the one alone would be."""
    handle = quantised()
    handle.load(peft_folder, "a")
    handle.locate = lambda ref: release(peft_folder, "qlora", {"method": "nf4"})
    handle.load("acme/mood", "b", allow_base_mismatch=True)
    assert [handle.adapters[name].method for name in "ab"] == ["lora", "qlora"]

    def under(expr: Expr = None, rows: list[Expr] | None = None) -> Tensor:
        with handle.using(expr, rows):
            return logits(handle.model)

    alone, twice = under("a"), under(Average("a", "a", weights=[0.5, 1.0]))
    assert (under(Average("a", "b")) - alone).abs().max() <= 1e-5
    assert (under(Average("b", "a", weights=[0.5, 1.0])) - twice).abs().max() <= 2e-5
    assert (under(Stack("a", "b")) - under(Stack("a", "a"))).abs().max() <= 2e-5
    mixed = under(rows=["b", None, "a"])
    assert (mixed - torch.stack([alone[0], under()[1], alone[2]])).abs().max() <= 1e-5
    assert (alone - under()).abs().max() > 1e-2


def test_a_release_of_another_method_is_still_refused(quantised: Quantised, peft_folder: Path) -> None:
    handle = quantised(None)
    handle.locate = lambda ref: release(peft_folder, "bottleneck", None)
    with pytest.raises(AdapterError, match="its release says method 'bottleneck', its files are 'lora'"):
        handle.load("acme/mood")


def test_saved_and_loaded(quantised: Quantised, peft_folder: Path, tmp_path: Path) -> None:
    handle = quantised()
    handle.locate = lambda ref: release(peft_folder, "qlora", {"method": "nf4"})
    handle.load("acme/mood", "a", allow_base_mismatch=True)
    handle.activate("a")
    for format in ("peft", "hubcli"):
        handle.save("a", tmp_path / format, format)
    written, given = (load_file(f / "adapter_model.safetensors") for f in (tmp_path / "peft", peft_folder))
    assert all(torch.equal(written[key], tensor) for key, tensor in given.items() if "lora" in key)
    manifest = json.loads((tmp_path / "hubcli" / "manifest.json").read_text())
    assert manifest["method"] == "qlora" and manifest["base"]["quantization"] == {"method": "nf4"}
    fresh = adapt(quantised().model)
    fresh.load(tmp_path / "hubcli", "b", allow_base_mismatch=True)
    fresh.activate("b")
    assert torch.equal(logits(fresh.model), logits(handle.model))
