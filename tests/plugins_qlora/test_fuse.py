"""fuse on a base in 4 bit: into full-precision weights, and quantised again on request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from hubcli.adapted import Adapted, adapt
from hubcli.bases import load_base
from hubcli.fused_checkpoint import write
from hubcli.manifest import BaseModel
from hubcli.quantised import dequantised, is_quantised
from tests.support.cli import hubcli
from tests.tensor.models import apart, peft_adapter

from .conftest import Quantised, logits

pytest.importorskip("bitsandbytes")


def plain_twin(handle: Adapted, folder: Path) -> Any:
    """The base in full precision, with the numbers that the quantised one computes with."""
    made = tf.BertForSequenceClassification.from_pretrained(folder, num_labels=3).eval()
    with torch.no_grad():
        for path, module in handle.model.named_modules():
            if is_quantised(module):
                made.get_submodule(path).weight.copy_(dequantised(module))
    return made


def quantised_bits(model: nn.Module) -> dict[str, tuple[int, Tensor, Tensor]]:
    return {
        path: (id(module), module.weight.detach().clone(), module.weight.quant_state.absmax.clone())  # type: ignore[union-attr, operator]
        for path, module in model.named_modules()
        if is_quantised(module)
    }


@pytest.mark.parametrize("predicted", [False, True])
def test_into_full_precision_and_back(predicted: bool, quantised: Quantised, folder: Path, peft_folder: Path) -> None:
    """Whether it has predicted or not: adapted modules become Linears of the dequantised weight plus the delta; others stay."""
    handle = quantised()
    handle.load(peft_folder, "a")
    handle.activate("a")
    expected = logits(handle.model) if predicted else None
    twin = adapt(plain_twin(handle, folder))
    twin.load(peft_folder, "a")
    twin.fuse("a")
    before = quantised_bits(handle.model)
    handle.fuse()
    made = handle.engine.fused
    assert made is not None
    for path in made.weights:
        module = handle.model.get_submodule(path)
        assert type(module) is nn.Linear
        assert apart(module.weight, twin.model.get_submodule(path).weight) <= 1e-6, path  # type: ignore[arg-type]
    left = quantised_bits(handle.model)
    assert left and not set(left) & set(made.weights)
    assert apart(logits(handle.model), logits(twin.model)) <= 1e-5
    handle.unfuse()
    after = quantised_bits(handle.model)
    assert {path: number for path, (number, _, _) in after.items()} == {path: n for path, (n, _, _) in before.items()}
    assert all(torch.equal(after[p][1], b[1]) and torch.equal(after[p][2], b[2]) for p, b in before.items())
    assert expected is None or torch.equal(logits(handle.model), expected)


def test_a_bias_leaves_the_weights_in_4_bit(quantised: Quantised) -> None:
    handle = quantised()
    handle.add("bitfit", "a", {}, head=None)
    with torch.no_grad():
        for parameter in handle.trainable("a"):
            parameter.add_(torch.randn_like(parameter) * 0.3)
    handle.trainable([])
    before = set(quantised_bits(handle.model))
    handle.activate("a")
    expected = logits(handle.model)
    handle.fuse()
    assert set(quantised_bits(handle.model)) == before
    assert apart(logits(handle.model), expected) <= 1e-5


@pytest.mark.parametrize("requantize", [None, "nf4"])
def test_a_checkpoint(requantize: str | None, quantised: Quantised, peft_folder: Path, tmp_path: Path) -> None:
    """In full precision plain transformers gives the logits of the QLoRA; in 4 bit the error of the weights is stated."""
    handle = quantised()
    handle.load(peft_folder, "a")
    handle.activate("a")
    expected = logits(handle.model)
    full = write(handle, tmp_path / "full")
    again: Any = tf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "full").eval()
    assert apart(logits(again), expected) <= 1e-5 and not hasattr(again.config, "quantization_config")
    assert full.error is None
    if requantize is None:
        return
    made = write(handle, tmp_path / "nf4", requantize=requantize)
    small: Any = tf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "nf4").eval()
    found = [path for path, module in small.named_modules() if is_quantised(module)]
    assert found and not (tmp_path / "nf4" / "folded").exists()
    far = max(apart(dequantised(small.get_submodule(path)), again.get_submodule(path).weight) for path in found)
    assert made.error == pytest.approx(far, rel=1e-4)
    assert torch.equal(logits(handle.model), expected), "the handle is what it was"


def test_gpt2_keeps_its_own_layout(tmp_path: Path) -> None:
    """Its linear modules are Conv1D, whose weights lie the other way round."""
    torch.manual_seed(0)
    config = tf.GPT2Config(
        n_embd=64, n_layer=2, n_head=4, n_positions=32, vocab_size=60, bos_token_id=1, eos_token_id=2
    )
    plain = tf.GPT2LMHeadModel(config).eval()
    plain.save_pretrained(tmp_path / "base")
    peft_adapter(plain, tmp_path / "a", "", r=3, target_modules=["c_attn", "c_proj"])
    base = BaseModel(str(tmp_path / "base"), architecture="GPT2Model")
    model, _, own = load_base(base, "text-generation", quantize="nf4")
    handle = adapt(model, base=own)
    handle.load(tmp_path / "a", "a")
    handle.activate("a")
    expected = logits(model)
    write(handle, tmp_path / "out")
    again: Any = tf.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert isinstance(again.transformer.h[0].attn.c_attn, Conv1D)
    assert apart(logits(again), expected) <= 1e-4
    assert again.lm_head.weight is again.transformer.wte.weight


def test_on_the_command_line(folder: Path, peft_folder: Path, tmp_path: Path) -> None:
    answer = hubcli(
        "fuse", str(peft_folder), "--out", str(tmp_path / "m"), "--quantize", "nf4", "--requantize", "nf4", "--json"
    )
    assert answer.code == 0, answer.out
    assert answer.document["quantization"]["method"] == "nf4" and answer.document["quantization"]["error"] > 0
    refused = hubcli("fuse", str(peft_folder), "--out", str(tmp_path / "n"), "--requantize", "int3", "--json")
    assert refused.document["error"]["id"] == "E_UNSUPPORTED" and not (tmp_path / "n").exists()
