"""The attention port: masks of every kind, caches, copies, checkpointing, and what may not run there."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, BatchSplit, Expr, Split, Stack
from hubcli.errors import UnsupportedSiteError
from hubcli.testing import apart, inputs_of, output, reference, tiny

from .frozen import under

pytestmark = pytest.mark.filterwarnings("ignore")
DECODERS = ["gpt2", "gpt_neox", "llama", "mistral", "gemma3"]
TREES: list[Expr] = [
    Stack("a", Average("b", "a", weights=[0.2, 0.6])),
    BatchSplit("a", Average("b", "a", weights=[0.5, 0.1]), sizes=[1, 2]),
    Stack("b", Split(None, Average("a", "b", weights=[0.3, 0.4]), sizes=[4, 3])),
    Split("a", BatchSplit("b", None, sizes=[2, 1]), sizes=[2, 5]),
]


def prefixed(family: str, dtype: torch.dtype = torch.float64, implementation: str = "sdpa") -> Adapted:
    """A tiny model with frozen random prefixes a (flat, 3 long) and b (from a network, 5 long)."""
    model: Any = tiny(family, dtype)
    model.set_attn_implementation(implementation)
    handle = adapt(model)
    for name, config in (("a", {"prefix_length": 3, "flat": True}), ("b", {"prefix_length": 5, "bottleneck_size": 6})):
        torch.manual_seed(ord(name))
        handle.add("prefix", name, config, head=None)
        with torch.no_grad():
            for parameter in handle.trainable(name):
                parameter.add_(torch.randn_like(parameter) * 0.6)
    handle.trainable([])
    return handle


def padded(family: str, side: str) -> dict[str, torch.Tensor]:
    inputs = inputs_of(family)
    if side == "none":
        del inputs["attention_mask"]
    elif side == "left":
        inputs["attention_mask"] = inputs["attention_mask"].flip(1)
    return inputs


@pytest.mark.parametrize("side", ["none", "left", "right"])
@pytest.mark.parametrize("family", ["bert", "gpt2", "mistral"])
def test_every_kind_of_mask(family: str, side: str) -> None:
    handle, inputs = prefixed(family), padded(family, side)
    tolerance = 1e-6 if family == "mistral" else 1e-10  # RMSNorm computes in float32
    for trained in ([], ["a", "b"]):
        handle.trainable(trained)
        for expr in TREES:
            assert apart(under(handle, inputs, expr), reference(handle, expr, inputs)) <= tolerance, expr


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_eager_rows_are_each_alone_where_the_left_is_padded(family: str) -> None:
    handle, inputs = prefixed(family, torch.float32, "eager"), padded(family, "left")
    rows: list[Expr] = [Stack("a", "b"), "b", None]
    found, seen = under(handle, inputs, rows=rows), inputs["attention_mask"].bool()
    alone = torch.stack([under(handle, inputs, expr)[i] for i, expr in enumerate(rows)])
    assert torch.isfinite(found).all() and apart(found[seen], alone[seen]) <= 1e-5


def test_a_row_that_sees_nothing_sees_its_prefix_and_changes_no_other() -> None:
    handle, inputs = prefixed("bert"), inputs_of("bert")
    inputs["attention_mask"][1] = 0
    for expr in ("a", Average("a", "b", weights=[0.3, 0.4])):
        assert apart(under(handle, inputs, expr), reference(handle, expr, inputs)) <= 1e-10
    bare = under(handle, inputs)
    for rows in (["a", None, "b"], [Average("a", None), None, "b"]):
        assert apart(under(handle, inputs, rows=rows)[1], bare[1]) <= 1e-12
    assert apart(under(handle, inputs, "a")[1], bare[1]) > 1e-3


@pytest.mark.parametrize("family", [*DECODERS, "t5", "bart", "whisper"])
def test_generate_with_a_cache_is_generate_without(family: str) -> None:
    handle, inputs = prefixed(family), inputs_of(family)
    inputs.pop("decoder_input_ids", None)
    if family in DECODERS:
        inputs["attention_mask"] = inputs["attention_mask"].flip(1)
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    rows: list[Expr] = [Stack("a", "b"), "b", None]
    alone = []
    for expr in (*rows, Average("a", "b", weights=[0.2, 0.5])):
        alone.append(handle.generate(**inputs, **options, expr=expr))
        assert torch.equal(alone[-1], handle.generate(**inputs, **options, expr=expr, use_cache=False)), expr
    assert family == "t5" or not torch.equal(alone[1], alone[2])
    found = handle.generate(**inputs, **options, rows=rows)
    assert torch.equal(found, torch.stack([alone[i][i] for i in range(3)]))
    if family != "whisper":
        assert torch.equal(handle.generate(**inputs, **options, rows=rows, cache_implementation="static"), found)


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_copies_have_prefixes_of_their_own(family: str) -> None:
    handle, inputs = prefixed(family), inputs_of(family)
    bare = output(handle.model, inputs)
    handle.activate(Stack("a", "b"))
    expected = output(handle.model, inputs)
    for twin in (copy.deepcopy(handle.model), pickle.loads(pickle.dumps(handle.model))):
        assert torch.equal(output(twin, inputs), expected)
        adapt(twin).detach()
        assert torch.equal(output(twin, inputs), bare)
        assert torch.equal(output(handle.model, inputs), expected)


def test_the_implementation_may_change_while_prefixes_are_on() -> None:
    handle, inputs = prefixed("bert"), inputs_of("bert")
    handle.activate(Stack("a", "b"))
    model: Any = handle.model
    expected = output(model, inputs)
    model.set_attn_implementation("eager")
    assert apart(output(model, inputs), expected) <= 1e-10
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UnsupportedSiteError, match="flash_attention_2"):
        output(model, inputs)
    model.set_attn_implementation("sdpa")
    assert torch.equal(output(model, inputs), expected)


def test_an_implementation_without_masks_is_refused_and_leaves_nothing() -> None:
    model: Any = tiny("bert")
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UnsupportedSiteError, match="flash_attention_2") as caught:
        adapt(model).add("prefix", "a", head=None)
    assert 'attn_implementation="sdpa"' in str(caught.value.hint)
    assert all(m.config is model.config for m in model.modules() if type(m).__name__ == "BertSelfAttention")


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_checkpointing_gives_the_same_gradients(family: str) -> None:
    found = []
    for checkpointed in (False, True):
        handle, inputs = prefixed(family), inputs_of(family)
        model: Any = handle.model
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointed:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        parameters = handle.trainable("b")
        with handle.using(Stack("a", "b")):
            model(**inputs).logits.square().mean().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)
        found.append([p.grad for p in parameters])
    for once, again in zip(*found, strict=True):
        assert apart(once, again) <= 1e-9 * max(1.0, once.abs().max().item())
