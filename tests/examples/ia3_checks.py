"""Run by test_packages.py in a process where the installed hubcli-ia3 is on the path: the suite, and peft live."""

from __future__ import annotations

import copy
import dataclasses
import os
from pathlib import Path
from typing import Any

import hubcli_ia3.method as ia3
import pytest
import torch
import transformers as tf
from hubcli_ia3.adapterhub import translated
from peft import IA3Config, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn

from hubcli.adapted import adapt
from hubcli.composition import Average, Stack
from hubcli.errors import ConfigKeyError, WeightsError
from hubcli.plan import Single
from hubcli.plugins import plugins
from hubcli.testing import apart, conformance, inputs_of, output, tiny

GOLDENS = Path(os.environ.get("HUBCLI_GOLDENS") or Path(__file__).parents[1] / "fixtures" / "adapterhub")
MODELS = {"bert": tf.BertModel, "distilbert": tf.DistilBertModel, "gpt2": tf.GPT2Model}
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


@pytest.mark.parametrize("family", [family for family in MODELS if (GOLDENS / family).is_dir()])
def test_it_reads_adapterhubs(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBCLI_HOME", str(tmp_path / "home"))
    here = GOLDENS / family
    handle = adapt(MODELS[family].from_pretrained(here / "base").eval())
    outputs, inputs = load_file(here / "outputs.safetensors"), load_file(here / "inputs.safetensors")
    name = handle.load(here / "adapters" / "ia3")
    assert handle.adapters[name].method == "ia3"
    handle.activate(name)
    with torch.no_grad():
        found = handle.model(**inputs)[0]
    print(f"{family}: {apart(found, outputs['ia3']):.1e} from AdapterHub")
    assert apart(found, outputs["ia3"]) <= 1e-5 and apart(outputs["ia3"], outputs["base"]) > 0.01
    handle.save(name, tmp_path / "own", format="hubcli")
    handle.activate(handle.load(tmp_path / "own"))
    with torch.no_grad():
        assert torch.equal(handle.model(**inputs)[0], found)


SCALE = {"architecture": "lora", "composition_mode": "scale", "r": 1, "alpha": 2, "attn_matrices": ["k", "v"]}


def test_the_claim_is_by_keys() -> None:
    for mode, method in (("scale", "ia3"), ("add", "lora")):
        info = plugins().method_claiming("adapterhub", "lora", {**SCALE, "composition_mode": mode})
        assert info is not None and info.name == method


def test_adapterhubs_configs() -> None:
    config, tensors = translated(SCALE, {"h.0.attn.c_attn": {"ia3_l": torch.arange(4.0).view(4, 1)}})
    assert config == {"target_modules": ["h.0.attn.c_attn"], "feedforward_modules": []}
    assert tensors["h.0.attn.c_attn"]["ia3_l"].flatten().tolist() == [1, 1, 0, 2, 4, 6]
    for key, value in {"use_gating": True, "r": 2, "dropout": 0.1, "vera_d": 0.1, "alpha": "1", "new": 1}.items():
        with pytest.raises(ConfigKeyError, match=key):
            translated({**SCALE, key: value}, {})
    with pytest.raises(WeightsError, match="c_attn"):
        translated(SCALE, {"c_attn": {"ia3_l": torch.ones(3, 1)}})


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_it_folds_into_weights(family: str) -> None:
    """Fused, nothing is left around a module: the state_dict has the base's keys."""
    handle, keys = adapt(tiny(family)), list(tiny(family).state_dict())
    handle.add("ia3", "a", {}, head=None)
    assert list(handle.fuse("a").state_dict()) == keys
    assert handle.engine.fused is not None and handle.engine.fused.weights and not handle.engine.fused.modules
