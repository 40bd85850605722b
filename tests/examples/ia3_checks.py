"""Run by test_ia3.py in a process where the installed hubcli-ia3 is on the path: the suite, and peft live."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import hubcli_ia3.method as ia3
import pytest
import torch
from peft import IA3Config, PeftModel, get_peft_model
from torch import nn

from hubcli.adapted import adapt
from hubcli.composition import Average, Stack
from hubcli.errors import ConfigKeyError
from hubcli.plan import Single
from hubcli.testing import apart, conformance, inputs_of, output, tiny

pytestmark = pytest.mark.filterwarnings("ignore")

VIT = {"target_modules": ["q_proj", "fc2", "projection"], "feedforward_modules": ["fc2"]}
TASKS = {"bert": "SEQ_CLS", "gpt2": "CAUSAL_LM", "llama": "CAUSAL_LM", "t5": "SEQ_2_SEQ_LM", "vit": None}

TestIA3 = conformance("ia3", families=["bert", "gpt2", "llama", "t5"])
TestIA3Convolution = conformance("ia3", [VIT], families=["vit"])


def tuned_by_peft(base: nn.Module, folder: Path, task: str | None, seed: int, **options: Any) -> PeftModel:
    torch.manual_seed(seed)
    tuned = get_peft_model(copy.deepcopy(base), IA3Config(task_type=task, **options), autocast_adapter_dtype=False)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.4)
    tuned.save_pretrained(folder)
    return tuned.eval()


@pytest.mark.parametrize("family", TASKS)
def test_it_is_pefts(family: str, tmp_path: Path, record_property: Any) -> None:
    base, inputs, options = tiny(family), inputs_of(family), VIT if family == "vit" else {}
    before = output(base, inputs)
    tuned = tuned_by_peft(base, tmp_path / "a", TASKS[family], 1, **options)
    expected = output(tuned, inputs)
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


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
def test_a_stack_is_pefts(family: str, tmp_path: Path) -> None:
    base, inputs = tiny(family), inputs_of(family)
    task = None if family == "bert" else TASKS[family]
    tuned = tuned_by_peft(base, tmp_path / "a", task, 1)
    tuned_by_peft(base, tmp_path / "b", task, 2)
    tuned.load_adapter(tmp_path / "b", "b", autocast_adapter_dtype=False)
    tuned.base_model.set_adapter(["default", "b"])
    expected = output(tuned.eval(), inputs)
    handle = adapt(base)
    for name in "ab":
        handle.load(tmp_path / name)
    handle.activate(Stack("a", "b"))
    assert apart(output(base, inputs), expected) <= 1e-5
    assert all(step is None or isinstance(step, Single) for step in handle.engine.routing.active.steps)


def test_it_composes_with_other_methods(tmp_path: Path) -> None:
    """Against the base with scaled and shifted weights: IA3 on top of a LoRA and a BitFit."""
    base, inputs = tiny("bert"), inputs_of("bert")
    tuned_by_peft(base, tmp_path / "a", None, 1, target_modules=["query"], feedforward_modules=[])
    handle = adapt(base)
    handle.load(tmp_path / "a", "scale")
    handle.add("lora", "low", {"r": 2, "target_modules": ["query"]}, head=None)
    handle.add("bitfit", "shift", {"target_modules": ["query"]}, head=None)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in handle.trainable(["low", "shift"]):
            parameter.normal_(std=0.3)
    handle.trainable([])
    changed = dict(base.named_parameters())
    adapters = handle.engine.adapters
    for site, t in adapters["low"].sites.items():
        gain, b = adapters["scale"].sites[site]["ia3_l"], adapters["shift"].sites[site]["bias_delta"]
        weight = changed[f"{site.path}.weight"] + 4 * t["lora_B"] @ t["lora_A"]
        changed[f"{site.path}.weight"] = gain * weight
        changed[f"{site.path}.bias"] = gain.flatten() * (changed[f"{site.path}.bias"] + 0.5 * b)
    with torch.no_grad():
        expected = torch.func.functional_call(base, changed, (), inputs).logits
    handle.activate(Stack("low", Average("shift", None), "scale"))
    assert apart(output(base, inputs), expected) <= 1e-10


def test_every_key_of_peft_is_accounted_for() -> None:
    known = {field.name for field in dataclasses.fields(IA3Config)} - {"runtime_config"}
    assert known <= set(ia3.READ) | set(ia3.WITHOUT_EFFECT)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"target_modules": "all-linear", "feedforward_modules": []}, "all-linear"),
        ({"target_modules": ["key"], "feedforward_modules": [1]}, "feedforward_modules"),
        ({"target_modules": ["key"], "feedforward_modules": "("}, "regular expression"),
        ({"init_ia3_weights": False}, "init_ia3_weights"),
        ({"r": 4}, "r: 4 is not supported"),
    ],
)
def test_refused_by_name(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigKeyError, match=message):
        adapt(tiny("bert")).add("ia3", "a", config)
