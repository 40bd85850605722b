"""Compacter: AdapterHub's folders against its outputs, the Kronecker products against torch's, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from hubcli_bottleneck.phm import PLACES, plain
from safetensors.torch import load_file, save_file

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, Stack
from hubcli.errors import ConfigKeyError, UnsupportedSiteError, WeightsError
from hubcli.plan import Single
from hubcli.testing import apart, conformance, inputs_of, tiny

pytestmark = pytest.mark.filterwarnings("ignore")
FIXTURES = Path(__file__).parents[1] / "fixtures" / "adapterhub"
GOLDENS = Path(os.environ.get("HUBCLI_GOLDENS") or FIXTURES)
MODELS = {"bert": tf.BertModel, "distilbert": tf.DistilBertModel, "gpt2": tf.GPT2Model}
BERT = FIXTURES / "bert"
INPUTS = load_file(BERT / "inputs.safetensors")
OUTPUTS = load_file(BERT / "phm.safetensors")
SMALL = {"variant": "compacter", "phm_dim": 2, "reduction_factor": 4}
OWN = {"factorized_phm_W": False, "shared_phm_rule": False, "factorized_phm_rule": True, "phm_bias": False}
SHARED = {"shared_W_phm": True, "factorized_phm_rule": True, "scaling": "learned"}

TestCompacter = conformance("bottleneck", [SMALL, {**SMALL, **OWN}, {**SMALL, **SHARED}], families=["bert"])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBCLI_HOME", str(tmp_path / "home"))


def handle(*names: str) -> Adapted:
    given = adapt(tf.BertModel.from_pretrained(BERT / "base").eval())
    for name in names:
        given.load(BERT / "adapters" / name)
    return given


def hidden(given: Adapted, expr: Any, inputs: dict[str, Any] = INPUTS) -> torch.Tensor:
    with torch.no_grad(), given.using(expr):
        return given.model(**inputs)[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_are_adapterhubs(name: str, tmp_path: Path) -> None:
    given = handle(name)
    assert apart(hidden(given, name), OUTPUTS[name]) <= 1e-5 and apart(OUTPUTS[name], hidden(given, None)) > 0.1
    given.trainable(name)
    assert apart(hidden(given, name), OUTPUTS[name]) <= 1e-5
    given.trainable([])
    for format in ("adapterhub", "hubcli"):
        given.save(name, tmp_path / format, format=format)
        again = given.load(tmp_path / format)
        assert torch.equal(hidden(given, again), hidden(given, name))
        assert given.adapters[again].parameters == given.adapters[name].parameters
    ours = load_file(tmp_path / "adapterhub" / "adapter.safetensors")
    theirs = torch.load(BERT / "adapters" / name / "pytorch_adapter.bin", weights_only=True)
    assert {key: tensor.shape for key, tensor in ours.items()} == {
        key.removeprefix("bert."): tensor.shape for key, tensor in theirs.items()
    }


@pytest.mark.parametrize("family", [family for family in MODELS if (GOLDENS / family).is_dir()])
def test_a_file_without_the_shared_rule(family: str, tmp_path: Path) -> None:
    """It is refused; with the rule that was found from the outputs it gives them back."""
    here, target = GOLDENS / family, tmp_path / "mended"
    given = adapt(MODELS[family].from_pretrained(here / "base").eval())
    with pytest.raises(
        WeightsError, match=r"phm_rule: the config says that all layers share it, and the file lacks it"
    ):
        given.load(here / "adapters" / "compacter")
    assert not given.adapters
    tensors = torch.load(here / "adapters" / "compacter" / "pytorch_adapter.bin", weights_only=True)
    rule = load_file(FIXTURES / "compacter_rules.safetensors")[family]
    target.mkdir()
    shutil.copyfile(here / "adapters" / "compacter" / "adapter_config.json", target / "adapter_config.json")
    save_file({**tensors, "shared_parameters.compacter.phm_rule": rule}, target / "adapter.safetensors")
    name = given.load(target)
    expected = load_file(here / "outputs.safetensors")
    found = hidden(given, name, load_file(here / "inputs.safetensors"))
    assert apart(found, expected["compacter"]) <= 1e-5 and apart(found, expected["base"]) > 0.1


def test_the_maps_are_sums_of_kronecker_products() -> None:
    torch.manual_seed(0)
    sizes = {"down": (3, 2), "up": (2, 3)}
    tensors = {f"{p}_W": torch.randn(4, *sizes[p]) for p in PLACES} | {"phm_rule": torch.randn(4, 4, 4)}
    found = plain(tensors)
    for place in PLACES:
        parts = [torch.kron(tensors["phm_rule"][i], tensors[f"{place}_W"][i]) for i in range(4)]
        assert apart(found[f"{place}_weight"], torch.stack(parts).sum(0).T) <= 1e-6
        assert not found[f"{place}_bias"].any()


def test_frozen_ones_average_with_plain_bottlenecks_in_one_step() -> None:
    given = handle("phm", "double_seq_bn")
    for name in ("phm", "double_seq_bn"):  # one activation, as one form has
        given.engine.adapters[name].config["non_linearity"] = "relu"
        adapter = given.engine.adapters[name]
        adapter.settings = adapter.method.configure(adapter.config)
        adapter.forget()
    expr = Average("phm", "double_seq_bn", weights=[0.3, 0.7])
    found = hidden(given, expr)
    assert all(step is None or isinstance(step, Single) for step in given.engine.program(expr, None).steps)
    given.trainable("phm")
    assert apart(found, hidden(given, expr)) <= 1e-5
    given.trainable([])
    stacked = hidden(given, Stack("phm", "double_seq_bn"))
    given.trainable(["phm", "double_seq_bn"])
    assert apart(stacked, hidden(given, Stack("phm", "double_seq_bn"))) <= 1e-5


@pytest.mark.parametrize("learns", [True, False])
def test_the_rule_is_one_and_learns_if_it_should(learns: bool) -> None:
    given = adapt(tiny("bert"))
    given.add("bottleneck", "a", {**SMALL, "learn_phm": learns, "phm_init_range": 0.5}, head=None)
    parameters = given.trainable("a")
    rules = {id(tensors["phm_rule"]) for tensors in given.engine.adapters["a"].sites.values()}
    assert len(rules) == 1 and rules < {id(p) for p in parameters}
    rule = next(p for p in parameters if id(p) in rules)
    given.activate("a")
    optimizer, before = torch.optim.SGD(parameters, lr=0.5), rule.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        given.model(**inputs_of("bert")).logits.square().sum().backward()
        optimizer.step()
    assert torch.equal(rule, before) is not learns


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phm_dim": 0}, "phm_dim"),
        ({"phm_dim": True}, "phm_dim"),
        ({"phm_rank": 1.5}, "phm_rank"),
        ({"phm_bias": None}, "phm_bias"),
        ({"shared_phm_rule": "yes"}, "shared_phm_rule"),
        ({"phm_c_init": "zeros"}, "phm_c_init"),
        ({"hypercomplex_nonlinearity": "relu"}, "hypercomplex_nonlinearity"),
        ({"phm_init_range": -1}, "phm_init_range"),
        ({"shared_W_phm": True, "factorized_phm_W": False}, "shared_W_phm"),
        ({"init_weights": "mam_adapter"}, "init_weights"),
    ],
)
def test_refused_by_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigKeyError, match=message):
        adapt(tiny("bert")).add("bottleneck", "a", {**SMALL, **change})


def test_widths_that_the_rule_does_not_divide() -> None:
    with pytest.raises(UnsupportedSiteError, match="phm_dim 3 does not divide"):
        adapt(tiny("bert")).add("bottleneck", "a", {**SMALL, "phm_dim": 3})


def test_another_rule_at_another_layer_is_refused(tmp_path: Path) -> None:
    given = handle("phm")
    given.save("phm", tmp_path / "own", format="hubcli")
    tensors = load_file(tmp_path / "own" / "adapter.safetensors")
    first = next(key for key in tensors if key.endswith("phm_rule"))
    assert sum(key.endswith("phm_rule") for key in tensors) == 1
    tensors["encoder.layer.2.output.dense.phm_rule"] = tensors[first] + 1
    save_file(tensors, tmp_path / "own" / "adapter.safetensors")
    with pytest.raises(WeightsError, match="differs from that of other layers"):
        given.load(tmp_path / "own")
    document = json.loads((tmp_path / "own" / "manifest.json").read_text())
    assert document["config"]["phm_layer"] is True
