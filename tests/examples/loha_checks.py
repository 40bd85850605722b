"""Run by test_packages.py in a process where the installed hubcli-loha is on the path: the suite, and peft live."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import hubcli_loha.method as loha
import pytest
import torch
from peft import LoHaConfig, PeftModel, get_peft_model
from torch import nn

from hubcli.adapted import adapt
from hubcli.composition import Average, Stack
from hubcli.errors import ConfigKeyError, UnsupportedSiteError
from hubcli.testing import apart, conformance, inputs_of, output, tiny

pytestmark = pytest.mark.filterwarnings("ignore")
TASKS = {"bert": "SEQ_CLS", "llama": "CAUSAL_LM", "t5": "SEQ_2_SEQ_LM"}

TestLoHa = conformance("loha", [{"r": 2}, {"r": 3, "alpha": 5}], families=["bert", "llama", "t5"])


def tuned_by_peft(base: nn.Module, folder: Path, task: str, seed: int, **options: Any) -> PeftModel:
    torch.manual_seed(seed)
    config = LoHaConfig(task_type=task, r=3, alpha=6, init_weights=False, **options)
    tuned = get_peft_model(copy.deepcopy(base), config, autocast_adapter_dtype=False)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "hada_" in name:
                parameter.normal_(std=0.6)
    tuned.save_pretrained(folder)
    return tuned.eval()


@pytest.mark.parametrize("family", TASKS)
def test_it_is_pefts(family: str, tmp_path: Path) -> None:
    base, inputs = tiny(family), inputs_of(family)
    before = output(base, inputs)
    expected = output(tuned_by_peft(base, tmp_path / "a", TASKS[family], 1), inputs)
    handle = adapt(base)
    handle.load(tmp_path / "a")
    handle.activate("a")
    difference = apart(output(base, inputs), expected)
    print(f"{family}: {difference:.1e} from peft, {apart(expected, before):.2g} from the base")
    assert difference <= 1e-5 and apart(expected, before) > 1e-2
    handle.save("a", tmp_path / "again")
    handle.detach()
    assert torch.equal(output(base, inputs), before)
    again = PeftModel.from_pretrained(tiny(family), tmp_path / "again", autocast_adapter_dtype=False).eval()
    assert apart(output(again, inputs), expected) <= 1e-12


def test_a_stack_is_pefts(tmp_path: Path) -> None:
    base, inputs = tiny("llama"), inputs_of("llama")
    tuned = tuned_by_peft(base, tmp_path / "a", "CAUSAL_LM", 1)
    tuned_by_peft(base, tmp_path / "b", "CAUSAL_LM", 2)
    tuned.load_adapter(tmp_path / "b", "b", autocast_adapter_dtype=False)
    tuned.base_model.set_adapter(["default", "b"])
    expected = output(tuned.eval(), inputs)
    handle = adapt(base)
    for name in "ab":
        handle.load(tmp_path / name)
    handle.activate(Stack("a", "b"))
    assert apart(output(base, inputs), expected) <= 1e-5


def test_it_composes_with_other_methods(tmp_path: Path) -> None:
    """Against the base with its weights changed: the average of a LoHa and a LoRA."""
    base, inputs = tiny("bert"), inputs_of("bert")
    tuned_by_peft(base, tmp_path / "a", "SEQ_CLS", 1, target_modules=["query"])
    handle = adapt(base)
    handle.load(tmp_path / "a")
    handle.add("lora", "low", {"r": 2, "target_modules": ["query"]}, head=None)
    with torch.no_grad():
        for parameter in handle.trainable("low"):
            parameter.normal_(std=0.3)
    handle.trainable([])
    changed = dict(base.named_parameters())
    for site, t in handle.engine.adapters["a"].sites.items():
        product = 2 * (t["hada_w1_a"] @ t["hada_w1_b"]) * (t["hada_w2_a"] @ t["hada_w2_b"])
        low = handle.engine.adapters["low"].sites[site]
        changed[f"{site.path}.weight"] = (
            changed[f"{site.path}.weight"] + 0.3 * product + 0.7 * 4 * low["lora_B"] @ low["lora_A"]
        )
    changed |= {f"classifier.{k}": v for k, v in handle.engine.adapters["a"].heads["classifier"].named_parameters()}
    with torch.no_grad():
        expected = torch.func.functional_call(base, changed, (), inputs).logits
    handle.activate(Average("a", "low", weights=[0.3, 0.7]))
    assert apart(output(base, inputs), expected) <= 1e-10


def test_every_key_of_peft_is_read_or_refused() -> None:
    refused = {
        "rank_pattern",
        "alpha_pattern",
        "rank_dropout",
        "module_dropout",
        "layers_to_transform",
        "layers_pattern",
    }
    known = {field.name for field in dataclasses.fields(LoHaConfig)} - {"runtime_config"}
    assert known == {*loha.READ, *loha.WITHOUT_EFFECT, *refused}
    for key in refused:
        with pytest.raises(ConfigKeyError, match=key):
            adapt(tiny("bert")).add("loha", "a", {key: {"query": 2}})


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"target_modules": "all-linear"}, ConfigKeyError, "target_modules"),
        ({"r": 0}, ConfigKeyError, "r, alpha"),
        ({"alpha": "8"}, ConfigKeyError, "r, alpha"),
        ({"target_modules": ["LayerNorm"]}, UnsupportedSiteError, "nn.Linear alone"),
    ],
)
def test_refused_by_name(config: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        adapt(tiny("bert")).add("loha", "a", config)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_it_folds_into_weights(family: str) -> None:
    """Fused, nothing is left around a module: the state_dict has the base's keys."""
    handle, keys = adapt(tiny(family)), list(tiny(family).state_dict())
    handle.add("loha", "a", {"r": 2}, head=None)
    assert list(handle.fuse("a").state_dict()) == keys
    assert handle.engine.fused is not None and handle.engine.fused.weights and not handle.engine.fused.modules
