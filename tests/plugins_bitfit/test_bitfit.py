"""BitFit against biases folded into the model, on every family; what it refuses; its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hubcli_bitfit
import jsonschema
import pytest
import torch
import transformers as tf
from hubcli_bitfit.settings import KEYS, check, read_settings
from torch import nn

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, BatchSplit, Expr, Parallel, Split, Stack
from hubcli.errors import BaseMismatchError, ConfigKeyError, HubcliError, UnsupportedError, UnsupportedSiteError
from hubcli.plan import Single
from tests.tensor.models import FAMILIES, apart, inputs_of, logits, model_of

pytestmark = pytest.mark.filterwarnings("ignore")
BIASED = ["bert", "roberta", "distilbert", "albert", "gpt2", "vit"]
SCHEMA = json.loads((Path(hubcli_bitfit.__file__).parent / "config.schema.json").read_text())

SUMS: list[tuple[Expr, dict[str, float]]] = [
    ("a", {"a": 1}),
    (Stack("a", "b"), {"a": 1, "b": 1}),
    (Stack("a", None, "b", "a"), {"a": 2, "b": 1}),
    (Average("a", "b"), {"a": 0.5, "b": 0.5}),
    (Stack("b", Average("a", None, weights=[-0.7, 0.3])), {"a": -0.7, "b": 1}),
]


def randomised(handle: Adapted, name: str, seed: int, **config: Any) -> dict[str, torch.Tensor]:
    """A BitFit with random numbers under `name`, frozen; returns what it adds to each parameter of the base."""
    handle.add("bitfit", name, config, head=None)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in handle.trainable(name):
            parameter.normal_(std=0.3)
    handle.trainable([])
    sites = handle.engine.adapters[name].sites
    return {f"{site.path}.bias": tensors["bias_delta"].detach() for site, tensors in sites.items()}


def folded(base: nn.Module, inputs: Any, deltas: dict[str, dict[str, torch.Tensor]], **weights: float) -> torch.Tensor:
    changed = dict(base.named_parameters())
    for name, weight in weights.items():
        for key, delta in deltas[name].items():
            changed[key] = changed[key] + weight * delta
    with torch.no_grad():
        return torch.func.functional_call(base, changed, (), inputs).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("family", BIASED)
def test_sums_are_folded_biases(family: str) -> None:
    base, inputs = model_of(family), inputs_of(family)
    before, handle = logits(base, inputs), adapt(base)
    deltas = {name: randomised(handle, name, seed) for seed, name in enumerate("ab")}
    wanted = {name for name, _ in base.named_parameters() if name.endswith(".bias") and "residents" not in name}
    assert set(deltas["a"]) == wanted
    for expr, weights in SUMS:
        expected = folded(base, inputs, deltas, **weights)
        with handle.using(expr):
            assert apart(logits(base, inputs), expected) <= 1e-10, expr
            assert apart(logits(base, inputs), before) > 1e-2
    handle.trainable(["a"])
    for expr, weights in SUMS:
        expected = folded(base, inputs, deltas, **weights)
        with handle.using(expr):
            assert apart(logits(base, inputs), expected) <= 1e-10, f"{expr} while a trains"
    handle.trainable([])
    handle.activate(Stack("a", Average("b", "a")))
    assert all(isinstance(step, Single) for step in handle.engine.routing.active.steps)
    handle.detach()
    assert torch.equal(logits(base, inputs), before)


@pytest.mark.parametrize("family", BIASED)
def test_cuts_are_separate_runs(family: str) -> None:
    base, inputs = model_of(family), inputs_of(family)
    handle = adapt(base)
    for seed, name in enumerate("ab"):
        randomised(handle, name, seed)

    def under(expr: Expr = None, rows: Any = None) -> torch.Tensor:
        with handle.using(expr, rows):
            return logits(base, inputs)

    alone = {name: under(name) for name in ("a", "b", None)}
    assert (
        apart(under(rows=["b", None, "a"]), torch.stack([alone[n][i] for i, n in enumerate(["b", None, "a"])])) <= 1e-10
    )
    cut = BatchSplit("a", "b", sizes=[1, 2])
    assert apart(under(cut), torch.cat([alone["a"][:1], alone["b"][1:]])) <= 1e-10
    assert apart(under(Parallel("b", None)), torch.cat([alone["b"], alone[None]])) <= 1e-10


def test_split_cuts_the_sequence() -> None:
    """Against hooks that add another vector from position 3 on; position 0's where there is no sequence."""
    base, inputs = model_of("gpt2"), inputs_of("gpt2")
    handle = adapt(base)
    deltas = {name: randomised(handle, name, seed) for seed, name in enumerate("ab")}
    with handle.using(Split("a", "b", sizes=[3, 4])):
        found = logits(base, inputs)
    handle.detach()
    for key in deltas["a"]:
        at = torch.stack([deltas["a"][key]] * 3 + [deltas["b"][key]] * 4)
        base.get_submodule(key.removesuffix(".bias")).register_forward_hook(lambda m, i, out, at=at: out + at)
    assert apart(found, logits(base, inputs)) <= 1e-10


def test_added_biases_are_those_of_a_llama_that_has_them() -> None:
    base, inputs = model_of("llama"), inputs_of("llama")
    with pytest.raises(UnsupportedSiteError, match=r"no module .* has a bias") as caught:
        adapt(base).add("bitfit", "a")
    assert "add_biases" in str(caught.value.hint) and not adapt(base).adapters
    twin = model_of("llama", attention_bias=True, mlp_bias=True)
    twin.load_state_dict(base.state_dict(), strict=False)
    handle = adapt(base)
    delta = randomised(handle, "a", 1, add_biases=True)
    assert {key for key, _ in twin.named_parameters() if key.endswith(".bias")} == set(delta)
    with torch.no_grad():
        for key, value in delta.items():
            twin.get_parameter(key).copy_(value)
    handle.activate("a")
    assert apart(logits(base, inputs), logits(twin, inputs)) <= 1e-10


def test_chosen_biases() -> None:
    base = model_of("bert")
    handle = adapt(base)
    keys = set(randomised(handle, "a", 0, target_modules=["query", "LayerNorm"], layers_to_transform=[1]))
    assert all(".layer.1." in key for key in keys) and len(keys) == 3
    assert all("query" in key for key in randomised(handle, "b", 0, target_modules=r".*\.query"))
    assert not any("LayerNorm" in key for key in randomised(handle, "c", 0, exclude_modules=["LayerNorm"]))


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * (x + self.bias)


REFUSED: list[tuple[dict[str, Any], type[HubcliError], str]] = [
    ({"target_modules": ["0", "1"]}, UnsupportedSiteError, "0 has no bias"),
    ({"target_modules": ["2"]}, UnsupportedSiteError, "where a Scaled adds its bias is not known"),
    ({}, UnsupportedSiteError, "where a Scaled adds its bias is not known"),
    ({"r": 8}, ConfigKeyError, "r: expected only"),
    ({"add_biases": "yes"}, ConfigKeyError, "add_biases"),
    ({"layers_to_transform": [True], "target_modules": ["1"]}, ConfigKeyError, "layers_to_transform"),
    ({"layers_to_transform": [0]}, ConfigKeyError, "needs target_modules"),
    ({"target_modules": [3]}, ConfigKeyError, "target_modules"),
    ({"target_modules": "("}, ConfigKeyError, "target_modules"),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_refused_by_name(case: int) -> None:
    config, error, message = REFUSED[case]
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4), Scaled())
    with pytest.raises(error, match=message):
        adapt(model).add("bitfit", "a", config)
    assert not adapt(model).adapters and not any(m._forward_hooks for m in model.modules())
    assert case < 3 or not jsonschema.Draft202012Validator(SCHEMA).is_valid(config) or case in (6, 8)


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv1d(3, 4, 3), nn.GroupNorm(2, 4), nn.BatchNorm1d(4)
        self.d = nn.Conv1d(4, 2, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.d(self.c(self.b(self.a(x))))  # type: ignore[no-any-return]


def test_convolutions_and_channel_norms() -> None:
    torch.manual_seed(0)
    model = Convolutions().double().eval()
    x, handle = torch.randn(2, 3, 9, dtype=torch.float64), adapt(model)
    delta = randomised(handle, "a", 1, add_biases=True)
    assert list(delta) == [f"{name}.bias" for name in "abcd"]
    changed = {**dict(model.named_parameters()), **{k: model.get_parameter(k) + delta[k] for k in list(delta)[:3]}}
    expected = torch.func.functional_call(model, changed, (x,)).detach() + delta["d.bias"].view(-1, 1)
    handle.activate("a")
    assert apart(model(x).detach(), expected) <= 1e-10


def test_tied_biases_of_a_language_model_head_are_one() -> None:
    config = tf.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, vocab_size=60
    )
    base = tf.BertForMaskedLM(config).double().eval()
    delta = randomised(adapt(base), "a", 0)
    assert "cls.predictions.decoder.bias" in delta and "cls.predictions.bias" not in delta


def test_gradients_and_training() -> None:
    base, inputs = model_of("bert", torch.float32), inputs_of("bert")
    handle = adapt(base)
    randomised(handle, "frozen", 0)
    before = logits(base, inputs)
    handle.add("bitfit", "new")
    assert not any("classifier" in site.path for site in handle.engine.adapters["new"].sites)
    handle.activate("new")
    assert torch.equal(logits(base, inputs), before)
    handle.activate(Stack("frozen", "new"))
    parameters = handle.trainable("new")
    base(**inputs).logits.square().sum().backward()
    mine = {id(p) for p in parameters}
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters if p.shape != (16,)) and parameters
    assert all(p.grad is None for p in base.parameters() if id(p) not in mine)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_the_gradient_is_the_biases_own(family: str) -> None:
    base, inputs = model_of(family), inputs_of(family)
    base(**inputs).logits.square().sum().backward()
    expected = {n: p.grad.clone() for n, p in base.named_parameters() if n.endswith(".bias")}
    base.zero_grad()
    handle = adapt(base)
    handle.add("bitfit", "a", head=None)
    handle.activate("a")
    handle.trainable("a")
    base(**inputs).logits.square().sum().backward()
    sites = handle.engine.adapters["a"].sites
    assert max(apart(t["bias_delta"].grad, expected[f"{s.path}.bias"]) for s, t in sites.items()) <= 1e-9


def test_save_and_load(tmp_path: Path) -> None:
    base, inputs = model_of("bert"), inputs_of("bert")
    handle = adapt(base, labels=["bad", "good"])
    handle.add("bitfit", "a")
    with torch.no_grad():
        for parameter in handle.trainable("a"):
            parameter.add_(torch.randn_like(parameter))
    handle.activate("a")
    expected = logits(base, inputs)
    with pytest.raises(UnsupportedError, match="can't be written as 'peft'") as caught:
        handle.save("a", tmp_path / "x")
    assert "hubcli" in str(caught.value.hint)
    handle.save("a", tmp_path / "a", format="hubcli")
    handle.detach()
    handle = adapt(base)
    handle.load(tmp_path / "a")
    handle.activate("a")
    assert torch.equal(logits(base, inputs), expected)
    info = handle.adapters["a"]
    assert info.labels == ("bad", "good") and info.heads == ("classifier",) and info.method == "bitfit"
    handle.save("a", tmp_path / "b", format="hubcli")
    for file in ("manifest.json", "adapter.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    other = adapt(model_of("bert", num_hidden_layers=3))
    with pytest.raises(BaseMismatchError, match="this model has 3"):
        other.load(tmp_path / "a")


@pytest.mark.slow
def test_compiled_in_one_graph_and_swapped_without_another() -> None:
    torch._dynamo.reset()
    base, inputs = model_of("bert", torch.float32), inputs_of("bert")
    graphs: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    fast, handle = torch.compile(base, fullgraph=True, backend=backend), adapt(base)
    for seed, name in enumerate("abc"):
        randomised(handle, name, seed)
    for warm, other in [("a", "b"), (Stack("a", "b"), Average("b", "c"))]:
        handle.activate(warm)
        logits(fast, inputs)
        count = len(graphs)
        handle.activate(other)
        assert apart(logits(fast, inputs), logits(base, inputs)) <= 1e-6
        assert len(graphs) == count
    handle.activate(rows=["a", None, "b"])
    assert apart(logits(fast, inputs), logits(base, inputs)) <= 1e-6


def tensor(*shape: int, dtype: str = "F32") -> tuple[str, tuple[int, ...]]:
    return dtype, shape


CHECKS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "good": ({}, {"x.query.bias_delta": tensor(4)}, []),
    "with a head": (
        {"modules_to_save": ["classifier"]},
        {"x.bias_delta": tensor(4), "classifier.weight": tensor(2, 4)},
        [],
    ),
    "not named": ({"target_modules": ["key"]}, {"x.query.bias_delta": tensor(4)}, ["doesn't name it"]),
    "a matrix": ({}, {"x.bias_delta": tensor(4, 4)}, ["expected a vector"]),
    "integers": ({}, {"x.bias_delta": tensor(4, dtype="I64")}, ["found I64"]),
    "something else": ({}, {"x.weight": tensor(4)}, ["no bias of a BitFit", "no bias in the file"]),
    "config": ({"r": 1}, {}, ["expected only"]),
}


@pytest.mark.parametrize("case", CHECKS)
def test_check(case: str) -> None:
    config, tensors, expected = CHECKS[case]
    found = check(config, tensors)
    assert len(found) == len(expected) and all(part in text for part, (_, text) in zip(expected, found, strict=True))


def test_schema_and_settings_know_the_same_keys() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["properties"]) == set(KEYS)
    assert read_settings({"target_modules": {"b", "a"}}).targets.include == ("a", "b")
    assert set(FAMILIES) - set(BIASED) == {"llama", "t5"}
