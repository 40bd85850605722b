"""A base in 4 bit: what is quantised, what its weights read as, and that predicting and training may come in any order."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BitsAndBytesConfig,
)

from hubcli import quantised as quantisation
from hubcli.adapted import Adapted, adapt
from hubcli.adapter import place
from hubcli.bases import load_base
from hubcli.errors import HubcliError, MissingExtraError, UnsupportedError, UnsupportedSiteError
from hubcli.manifest import BaseModel
from hubcli.method import HubcliWarning
from hubcli.quantised import dequantised, keep_readable
from hubcli.testing import inputs_of, tiny_nf4
from tests.api.bundled import MINILM

from .conftest import Quantised, inputs, logits

CONFIG = {"r": 2, "lora_alpha": 4, "target_modules": ["query", "value", "dense"]}


def by_hand(module: Any) -> Tensor:
    """The weight from its codes and the two levels of scales, with nothing of bitsandbytes' kernels."""
    state = module.weight.quant_state
    outer = state.state2
    scales = outer.code[state.absmax.long()] * outer.absmax.repeat_interleave(outer.blocksize)[: state.absmax.numel()]
    codes = module.weight.data.reshape(-1)
    numbers = state.code[torch.stack([codes >> 4, codes & 15], -1).reshape(-1).long()]
    return (numbers * (scales + state.offset).repeat_interleave(state.blocksize)).view(state.shape)


def four_bit(model: nn.Module) -> dict[str, Any]:
    return {path: module for path, module in model.named_modules() if isinstance(module, Linear4bit)}


def persons_own(folder: Path, **options: Any) -> Any:
    """The same base as a person quantises it, with a head in full precision."""
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, **options)
    return AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=3, quantization_config=config, device_map="cpu"
    ).eval()


def test_heads_and_what_the_kernels_misread_stay_in_full_precision(quantised: Quantised) -> None:
    found = four_bit(quantised().model)
    assert len(found) == 11 and not any("classifier" in path or path.endswith("1.output.dense") for path in found)
    assert quantised().structure.quantisation == "nf4" and quantised(None).structure.quantisation is None
    assert not four_bit(quantised(keep=["query"]).model).keys() & {"bert.encoder.layer.0.attention.self.query"}


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() != "AVX512", reason="other kernels read all rows right")
@pytest.mark.parametrize("columns", [64, 96])
def test_the_kernels_misread_rows_that_are_no_whole_blocks(columns: int) -> None:
    """Why such modules are left alone: if this fails for 96, they need not be any more."""
    model = nn.Sequential(nn.Linear(columns, 32))
    from bitsandbytes.nn import Params4bit

    made = Linear4bit(columns, 32, compute_dtype=torch.float32)
    made.weight = Params4bit(model[0].weight.detach(), quant_type="nf4", compress_statistics=True, module=made)
    made = made.to("cpu")
    assert ((dequantised(made) - by_hand(made)).abs().max().item() > 1e-4) is (columns == 96)


def test_weights_read_right_before_and_after_forwards(quantised: Quantised, folder: Path) -> None:
    handle = quantised()
    expected = {path: by_hand(module) for path, module in four_bit(handle.model).items()}
    for predicted in (False, True):
        for path, module in four_bit(handle.model).items():
            assert torch.equal(dequantised(module), expected[path]), (path, predicted)
        handle.model.train(not predicted)
        logits(handle.model)
        logits(handle.model.eval())
    original = quantised(None).model.get_submodule("bert.encoder.layer.0.attention.self.query").weight
    apart = (expected["bert.encoder.layer.0.attention.self.query"] - original).norm() / original.norm()
    assert 0.05 < apart < 0.15, "NF4's own rounding"


def test_a_persons_own_model_that_has_predicted_reads_right_and_does_not_train(folder: Path, peft_folder: Path) -> None:
    model = persons_own(folder, llm_int8_skip_modules=["classifier", "0.output.dense", "1.output.dense"])
    found = four_bit(model)
    expected = {path: by_hand(module) for path, module in found.items()}
    if not all(module.support_avx512bf16_for_cpu for module in found.values()):
        pytest.skip("this processor has no AVX512-BF16: nothing is packed here")
    bare = logits(model)
    for path, module in found.items():
        assert (dequantised(module) - expected[path]).norm() / expected[path].norm() < 3e-3, path
    handle = adapt(model)
    handle.load(peft_folder, "a")
    handle.activate("a")
    assert not torch.equal(logits(model), bare)
    for training in (lambda: handle.trainable("a"), lambda: handle.add("qlora", "b", CONFIG)):
        with pytest.raises(UnsupportedError, match="has predicted before it was adapted"):
            training()
    handle.detach()
    assert torch.equal(logits(model), bare)


def test_a_persons_own_model_adapted_first_may_predict_and_train(folder: Path, peft_folder: Path) -> None:
    def build() -> Adapted:
        handle = adapt(persons_own(folder, llm_int8_skip_modules=["classifier", "0.output.dense", "1.output.dense"]))
        handle.load(peft_folder, "a")
        handle.activate("a")
        return handle

    handle, fresh = build(), build()
    logits(handle.model)
    for one, other in zip(gradients(handle), gradients(fresh), strict=True):
        assert torch.equal(one, other) and bool(one.any())


def test_a_model_is_given_back_as_it_was(folder: Path) -> None:
    model, twin = (persons_own(folder, llm_int8_skip_modules=["classifier", "output.dense"]) for _ in range(2))
    handle = adapt(model)
    handle.add("qlora", "a", {**CONFIG, "target_modules": ["query"]})
    handle.activate("a")
    logits(model)
    handle.detach()
    assert torch.equal(logits(model), logits(twin))


def gradients(handle: Adapted) -> list[Tensor]:
    handle.model.train()
    for module in handle.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    parameters = handle.trainable("a")
    for parameter in parameters:
        parameter.grad = None
    handle.model(**inputs()).logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in parameters)
    return [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]


@pytest.mark.parametrize("order", ["t", "pt", "ppt", "tpt", "ptpt", "prt"])
def test_predicting_and_training_in_any_order(order: str, quantised: Quantised, peft_folder: Path) -> None:
    """p predicts, t takes gradients, r reads the weights: the last gradients are those of a fresh model, by folding too."""
    handle, plain = quantised(), quantised(None)
    for each in (handle, plain):
        each.load(peft_folder, "a")
        each.activate("a")
    with torch.no_grad():
        for path, module in four_bit(handle.model).items():
            plain.model.get_submodule(path).weight.copy_(by_hand(module))
    expected, answers = gradients(plain), logits(plain.model.eval())
    found: list[Tensor] = []
    for step in order:
        if step == "p":
            assert (logits(handle.model.eval()) - answers).abs().max() <= 1e-5
        elif step == "r":
            [dequantised(module) for module in four_bit(handle.model).values()]
        else:
            found = gradients(handle)
    assert (logits(handle.model.eval()) - answers).abs().max() <= 1e-5
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= 1e-5 * max(1.0, other.abs().max().item())


def test_the_adapter_is_what_peft_makes_of_it_on_the_same_base(quantised: Quantised, peft_folder: Path) -> None:
    handle = quantised()
    peer = copy.deepcopy(handle.model)
    for path, _ in list(peer.named_modules()):
        if path.startswith("hubcli"):
            del peer._modules[path]
            break
    keep_readable(peer.modules())
    tuned = PeftModel.from_pretrained(peer, str(peft_folder)).eval()
    handle.load(peft_folder, "a")
    handle.activate("a")
    assert (logits(handle.model) - logits(tuned)).abs().max() <= 1e-5
    assert (logits(handle.model) - logits(quantised().model)).abs().max() > 1e-2


def test_the_adapted_modules_of_minilm_take_less_than_a_third(home: Path) -> None:
    base = BaseModel(MINILM, architecture="BertModel")
    model, _, own = load_base(base, None, quantize="nf4")
    handle = adapt(model, base=own)
    handle.add("qlora", "a", {"target_modules": "all-linear"}, head=None)
    handle.activate("a")
    sites = [handle.structure.modules[site.path] for site in handle.engine.adapters["a"].sites]
    assert len(sites) == 37 and all(isinstance(module, Linear4bit) for module in sites)

    def bytes_of(module: Any) -> int:
        state = module.weight.quant_state
        outer = [state.state2.absmax, state.state2.code, state.offset] if state.nested else []
        return sum(t.numel() * t.element_size() for t in (module.weight, module.bias, state.absmax, state.code, *outer))

    full = sum(4 * (module.in_features + 1) * module.out_features for module in sites)
    for _ in range(2):
        assert sum(map(bytes_of, sites)) / full <= 0.16
        with torch.no_grad():
            model(input_ids=torch.tensor([[101, 2023, 102]]))
    assert handle.adapters["a"].base is not None and handle.adapters["a"].base.quantization == {"method": "nf4"}


def test_dtypes(quantised: Quantised) -> None:
    handle = quantised(dtype="bfloat16")
    handle.add("qlora", "a", CONFIG)
    handle.trainable([])
    handle.activate("a")
    assert {p.dtype for p in handle.model.parameters()} >= {torch.uint8, torch.bfloat16}
    assert logits(handle.model).dtype == torch.bfloat16
    leaves = handle.engine.adapters["a"]
    for site in leaves.sites:
        leaf = leaves.leaf(site, handle.structure.modules[site.path])
        assert leaf is not None and {t.dtype for t in leaf.tensors.values()} == {torch.bfloat16}, site
    block = nn.ModuleDict({"a": next(iter(four_bit(handle.model).values()))})
    assert place(block)[1] == torch.bfloat16


def test_what_can_not_be_done_is_refused(
    quantised: Quantised, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnsupportedError, match="expected a quantised base") as refused:
        quantised(None).add("qlora", "a", CONFIG)
    assert 'quantize="nf4"' in str(refused.value.hint)
    with pytest.raises(UnsupportedSiteError, match="DoRA needs the full-precision weight"):
        quantised().add("qlora", "a", {**CONFIG, "use_dora": True})
    with pytest.raises(UnsupportedError, match="float64"):
        quantised(dtype="float64")
    with pytest.raises(UnsupportedError, match=r"classifier.weight: a quantised module"):
        adapt(persons_own(folder, llm_int8_skip_modules=["pooler"])).add("qlora", "a", CONFIG)
    monkeypatch.setattr(quantisation, "find_spec", lambda name: None if name == "bitsandbytes" else name)
    with pytest.raises(MissingExtraError, match="needs bitsandbytes") as missing:
        quantisation.check("nf4")
    assert missing.value.hint and missing.value.hint.startswith("quantize=None")
    monkeypatch.undo()
    with pytest.warns(
        HubcliWarning, match="2 of 13 linear modules stay in full precision: rows that are no multiple of 64"
    ):
        quantised()
    tiny = tmp_path / "tiny"
    BertForSequenceClassification(
        BertConfig(vocab_size=9, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2)
    ).save_pretrained(tiny)
    with pytest.raises(UnsupportedError, match=r"no linear module of .*tiny can be quantised"):
        load_base(BaseModel(str(tiny)), "text-classification", quantize="nf4")
    for kind in ("int8", "NF4", "4"):
        with pytest.raises(HubcliError, match=f"quantize='{kind}'"):
            quantisation.check(kind)


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
def test_families(family: str, tmp_path: Path) -> None:
    """The quantised base is the full one with the weights that `dequantised` reads; heads of words stay as they are."""
    made: Any = tiny_nf4(family)
    sizes = {"num_key_value_heads": 2} if family == "llama" else {}
    config = type(made.config)(**{**made.config.to_dict(), **sizes})
    torch.manual_seed(1)
    full = type(made)(config).eval()
    full.save_pretrained(tmp_path)
    task = "text2text-generation" if family == "t5" else "text-generation"
    model, _, _ = load_base(BaseModel(str(tmp_path)), task, quantize="nf4")
    given = inputs_of(family)
    assert len(four_bit(model)) >= 8 and not any("head" in path for path in four_bit(model))
    with torch.no_grad():
        found, bare = model(**given).logits, full(**given).logits
        for path, module in four_bit(model).items():
            weight = full.get_submodule(path).weight
            weight.copy_(dequantised(module) if family != "gpt2" else dequantised(module).t())
        assert (found - full(**given).logits).abs().max() <= 1e-5 < 1e-3 < (found - bare).abs().max()


def test_a_model_can_be_copied(quantised: Quantised) -> None:
    handle = quantised()
    handle.add("qlora", "a", CONFIG)
    handle.activate("a")
    twin = copy.deepcopy(handle.model)
    expected = logits(handle.model)
    assert torch.equal(logits(twin), expected)
    assert AutoConfig.from_pretrained(handle.model.config._name_or_path).num_labels == 3
