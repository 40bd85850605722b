"""Prefixes against a brute force: softmax over concatenated keys, masses joined, and each child alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from torch import Tensor, nn
from transformers import AttentionInterface

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, BatchSplit, Expr, Parallel, Split, Stack
from hubcli.errors import BaseMismatchError, ConfigKeyError, UnsupportedError, UnsupportedSiteError
from hubcli.testing import apart, inputs_of, output, tiny

pytestmark = pytest.mark.filterwarnings("ignore")
CONFIG = {"prefix_length": 3, "bottleneck_size": 5}


def with_prefixes(family: str, *configs: dict[str, Any], implementation: str = "sdpa") -> Adapted:
    model: Any = tiny(family)
    model.set_attn_implementation(implementation)
    handle = adapt(model)
    for name, config in zip("abc", configs, strict=False):
        torch.manual_seed(ord(name))
        handle.add("prefix", name, config, head=None)
        with torch.no_grad():
            for parameter in handle.trainable(name):
                parameter.add_(torch.randn_like(parameter) * 0.4)
        handle.trainable([])
    return handle


@contextmanager
def brute_force(handle: Adapted, parts: list[tuple[str, float]]) -> Iterator[None]:
    """Every attention computed by hand: each prefix an attention of its own, joined by its mass times a weight."""

    def attention(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, scaling: Any = None, **more: Any) -> Any:
        path = next(p for p, m in handle.structure.modules.items() if m is module)
        scaling = q.shape[-1] ** -0.5 if scaling is None else scaling
        groups = q.shape[1] // k.shape[1]

        def alone(keys: Tensor, values: Tensor, bias: Any) -> tuple[Tensor, Tensor]:
            keys, values = (t.repeat_interleave(groups, 1) for t in (keys, values))
            scores = torch.einsum("bhqd,bhkd->bhqk", q, keys) * scaling
            scores = scores if bias is None else scores + bias
            mass = scores.logsumexp(-1, keepdim=True)
            return torch.einsum("bhqk,bhkd->bhqd", (scores - mass).exp(), values), mass

        bias = torch.zeros(1, 1, q.shape[2], k.shape[2], dtype=q.dtype)
        if mask is not None:
            mask = mask[..., : k.shape[2]]
            bias = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -1e30) if mask.dtype == torch.bool else mask
        elif getattr(module, "is_causal", False):
            bias = bias.masked_fill(~torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(), -math.inf)
        if more.get("position_bias") is not None:
            bias = bias + more["position_bias"]
        answers = [alone(k, v, bias)]
        for name, weight in parts:
            adapter = handle.engine.adapters[name]
            site = next((s for s in adapter.sites if s.path == path), None)
            if site is not None and weight:
                leaf = adapter.method.leaf(site, module, adapter.settings, adapter.sites[site], False)
                keys, values = (
                    t[None].expand(q.shape[0], -1, -1, -1) for t in adapter.method.keys_values(leaf, module)
                )
                out, mass = alone(keys, values, None)
                answers.append((out, mass + math.log(weight)))
        total = torch.stack([mass for _, mass in answers]).logsumexp(0)
        whole = sum(out * (mass - total).exp() for out, mass in answers)
        assert isinstance(whole, Tensor)
        return whole.transpose(1, 2), None

    AttentionInterface.register("by_hand", attention)
    sites = {m: m.config for m in handle.structure.modules.values() if "hubcli" in str(vars(m).get("config") and
             getattr(m.config, "_attn_implementation_internal", ""))}  # fmt: skip
    assert sites
    for module, config in sites.items():
        twin = copy.copy(config)
        twin.__dict__["_attn_implementation_internal"] = "by_hand"
        module.config = twin
    try:
        with handle.using(None):
            yield
    finally:
        for module, config in sites.items():
            module.config = config


SUMS: list[tuple[Expr, list[tuple[str, float]]]] = [
    ("a", [("a", 1.0)]),
    (Stack("a", "b"), [("a", 1.0), ("b", 1.0)]),
    (Average("a", "b", weights=[0.7, 2.0]), [("a", 0.7), ("b", 2.0)]),
    (Average("a", None), [("a", 0.5)]),
    (Stack("b", Average("a", "b", weights=[0.25, 0.0])), [("b", 1.0), ("a", 0.25)]),
]


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5", "vit"])
def test_sums_are_masses_joined(family: str, implementation: str) -> None:
    handle = with_prefixes(family, CONFIG, {"prefix_length": 5, "flat": True}, implementation=implementation)
    inputs = inputs_of(family)
    bare = output(handle.model, inputs)
    for expr, parts in SUMS:
        with handle.using(expr):
            found = output(handle.model, inputs)
        with brute_force(handle, parts):
            expected = output(handle.model, inputs)
        tolerance = 1e-6 if family == "llama" else 1e-10  # RMSNorm computes in float32
        assert apart(found, expected) <= tolerance, expr
        assert apart(found, bare) > 1e-3


@pytest.mark.parametrize("trained", [[], ["a"]])
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_cuts_are_each_child_alone(family: str, trained: list[str]) -> None:
    handle = with_prefixes(family, CONFIG, {"prefix_length": 5, "flat": True})
    handle.trainable(trained)
    inputs = inputs_of(family)

    def under(expr: Expr = None, rows: Any = None) -> Tensor:
        with handle.using(expr, rows):
            return output(handle.model, inputs)

    alone = {expr: under(expr) for expr in ("a", "b", None, Stack("a", "b"))}
    assert apart(under(BatchSplit("b", "a", sizes=[1, 2])), torch.cat([alone["b"][:1], alone["a"][1:]])) <= 1e-6
    assert apart(under(Parallel("a", None, "b")), torch.cat([alone["a"], alone[None], alone["b"]])) <= 1e-6
    rows = [Stack("a", "b"), None, "b"]
    assert apart(under(rows=rows), torch.stack([alone[expr][i] for i, expr in enumerate(rows)])) <= 1e-6
    nested = Stack("a", BatchSplit(None, "b", sizes=[2, 1]))
    assert apart(under(nested), torch.cat([alone["a"][:2], alone[Stack("a", "b")][2:]])) <= 1e-6


def test_a_split_gives_each_position_its_own() -> None:
    handle = with_prefixes("bert", CONFIG, {"prefix_length": 5, "flat": True})
    model: Any = handle.model
    one_layer = model.bert.encoder.layer
    model.bert.encoder.layer = nn.ModuleList([one_layer[0]])
    inputs = inputs_of("bert")

    def hidden(expr: Expr) -> Tensor:
        with handle.using(expr), torch.no_grad():
            return model.bert(**inputs).last_hidden_state  # type: ignore[no-any-return]

    found, a, b = hidden(Split("a", "b", sizes=[3, 4])), hidden("a"), hidden("b")
    assert apart(found, torch.cat([a[:, :3], b[:, 3:]], 1)) <= 1e-10
    assert apart(a, b) > 1e-3


def test_rows_that_see_nothing_but_a_prefix() -> None:
    handle = with_prefixes("bert", CONFIG, {"prefix_length": 5})
    inputs = inputs_of("bert")
    inputs["attention_mask"][1] = 0
    for rows in (["a", "a", None], ["b", None, "a"]):
        with handle.using(rows=rows):
            assert torch.isfinite(output(handle.model, inputs)).all()


def test_what_is_refused() -> None:
    handle = with_prefixes("bert", CONFIG, CONFIG)
    with pytest.raises(UnsupportedError, match="weight"):
        handle.activate(Average("a", "b", weights=[1.0, -0.5]))
    with pytest.raises(ConfigKeyError, match="use_gating"):
        handle.add("prefix", "d", {"use_gating": True})
    with pytest.raises(UnsupportedError, match="positions"):
        handle.save("a", Path("never"), format="peft")
    for made in (
        tf.MPNetModel(
            tf.MPNetConfig(
                hidden_size=16, num_hidden_layers=1, num_attention_heads=4, intermediate_size=8, vocab_size=60
            )
        ),
        tf.DebertaV2Model(
            tf.DebertaV2Config(
                hidden_size=16, num_hidden_layers=1, num_attention_heads=4, intermediate_size=8, vocab_size=60
            )
        ),
    ):
        with pytest.raises(UnsupportedSiteError, match="AttentionInterface"):
            adapt(made).add("prefix", "a")
        assert not any(m._forward_hooks for m in made.modules())


def test_a_prefix_for_each_layer_does_not_fit_shared_layers(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_attention_heads": 4, "intermediate_size": 24, "vocab_size": 60}
    four = adapt(tf.BertModel(tf.BertConfig(num_hidden_layers=4, **sizes)))
    four.add("prefix", "a", {"prefix_length": 2, "flat": True, "position_shift": True})
    four.save("a", tmp_path / "a")
    shared = adapt(tf.AlbertModel(tf.AlbertConfig(num_hidden_layers=4, embedding_size=8, **sizes)))
    with pytest.raises(BaseMismatchError, match="layers"):
        shared.load(tmp_path / "a", allow_base_mismatch=True)


def test_training_the_network_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    inputs = inputs_of("bert")

    def steps(handle: Adapted, name: str, count: int) -> Tensor:
        parameters = handle.trainable(name)
        handle.activate(name)
        for _ in range(count):
            torch.manual_seed(0)
            handle.model(**inputs).logits.square().sum().backward()
            with torch.no_grad():
                for parameter in parameters:
                    assert parameter.grad is not None
                    parameter.sub_(0.01 * parameter.grad)
                    parameter.grad = None
        return output(handle.model, inputs)

    whole, halved = with_prefixes("bert", CONFIG), with_prefixes("bert", CONFIG)
    assert whole.adapters["a"].parameters == 3 * 16 + 5 * 16 + 5 + 2 * (32 * 5 + 32)
    steps(halved, "a", 2)
    halved.save("a", tmp_path / "a", format="hubcli")
    again = adapt(tiny("bert"))
    assert torch.equal(steps(again, again.load(tmp_path / "a"), 2), steps(whole, "a", 4))


def test_the_model_is_itself_again_and_saves_as_itself(tmp_path: Path) -> None:
    handle = with_prefixes("bert", CONFIG)
    handle.activate("a")
    handle.model.save_pretrained(tmp_path / "adapted")  # type: ignore[operator]
    tiny("bert").save_pretrained(tmp_path / "bare")  # type: ignore[operator]
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "adapted" / file).read_bytes() == (tmp_path / "bare" / file).read_bytes()
    twin = copy.deepcopy(handle.model)
    assert torch.equal(output(twin, inputs_of("bert")), output(handle.model, inputs_of("bert")))
    handle.detach()
    attentions = [m for m in handle.model.modules() if type(m).__name__ == "BertSelfAttention"]
    assert all(m.config is handle.model.config for m in attentions)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_compiled_without_a_break_and_swapped_without_another_graph(family: str) -> None:
    handle = with_prefixes(family, CONFIG, CONFIG)
    inputs = inputs_of(family)
    inputs.pop("attention_mask")
    expected = {}
    for name in ("a", "b"):
        with handle.using(name):
            expected[name] = output(handle.model, inputs)
    torch.compiler.reset()
    compiled = torch.compile(handle.model, fullgraph=True, backend="eager")
    for at, name in enumerate(("a", "b")):
        with torch._dynamo.config.patch(error_on_recompile=at > 0), torch.no_grad(), handle.using(name):
            assert apart(compiled(**inputs).logits, expected[name]) <= 1e-10
