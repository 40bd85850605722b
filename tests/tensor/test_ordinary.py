"""fuse of what is no weight: ordinary modules whose tensors are buffers, no hook, no routing."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import transformers as tf
from torch import nn

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, BatchSplit, Expr, Fuse, Split, Stack, contains
from hubcli.errors import UnsupportedError
from hubcli.fuse import fuse
from hubcli.ordinary import CHILD
from hubcli.testing import inputs_of, output, tiny

from .frozen import Given, add_frozen, frozen, under
from .goldens import BERT, INPUTS
from .models import apart

pytestmark = pytest.mark.filterwarnings("ignore")
PFEIFFER = {"mh_adapter": False, "output_adapter": True, "reduction_factor": 4, "non_linearity": "relu"}
LAYER_NORM = {**PFEIFFER, "original_ln_before": True, "original_ln_after": True}
PARALLEL = {**PFEIFFER, "is_parallel": True, "original_ln_before": False}
METHODS: dict[str, Given] = {
    "pfeiffer": ("bottleneck", LAYER_NORM),
    "houlsby": ("bottleneck", {**PFEIFFER, "mh_adapter": True, "original_ln_before": False}),
    "parallel": ("bottleneck", PARALLEL),
    "prefix": ("prefix", {"prefix_length": 3}),
    "shifted": ("prefix", {"prefix_length": 3, "position_shift": True}),
    "mlp": ("prefix", {"prefix_length": 2, "flat": False, "bottleneck_size": 6}),
    "lora": ("lora", {"r": 3}),
}
EXPRS: tuple[Expr, ...] = (
    "a",
    Stack("a", "b"),
    Average("a", "b", weights=[0.7, 0.4]),
    Stack("b", Average("a", "b")),
    Split("a", "b", sizes=[3, 4]),
    BatchSplit("b", None, Stack("a", "b"), sizes=[1, 1, 1]),
    Stack("a", Split("b", None, sizes=[5, 2])),
    Average("a", BatchSplit("a", "b", sizes=[2, 1])),
)


def mixture(family: str, *kinds: str) -> Adapted:
    """Frozen random adapters a, b, … of these kinds."""
    return frozen(tiny(family), *(METHODS[kind] for kind in kinds))


def traces(model: nn.Module) -> dict[str, Any]:
    """All that a fuse could leave behind in a model."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        hooks = [*module._forward_hooks.items(), *module._forward_pre_hooks.items()]
        found[name] = (id(module), type(module), sorted(module.__dict__), sorted(module._modules), hooks)
    return found


@pytest.mark.parametrize(
    ("family", "kinds"),
    [
        ("bert", ("pfeiffer", "pfeiffer")),
        ("bert", ("houlsby", "houlsby")),
        ("bert", ("parallel", "parallel")),
        ("bert", ("pfeiffer", "lora")),
        ("gpt2", ("pfeiffer", "parallel")),
        ("llama", ("prefix", "mlp")),
        ("bert", ("prefix", "lora")),
        ("gpt2", ("shifted", "shifted")),
        ("roberta", ("shifted", "shifted")),
        ("bart", ("shifted", "shifted")),
        ("t5", ("prefix", "lora")),
    ],
)
def test_it_does_what_the_hooks_did(family: str, kinds: tuple[str, ...]) -> None:
    handle, inputs = mixture(family, *kinds), inputs_of(family)
    before, keys = traces(handle.model), list(handle.model.state_dict())
    for expr in EXPRS:
        if contains(expr, Split) and (family in ("t5", "bart") or "shifted" in kinds):
            continue  # refused under hooks already
        expected = under(handle, inputs, expr)
        handle.fuse(expr)
        model = handle.model
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules()), expr
        assert apart(output(model, inputs), expected) <= 1e-12, expr
        more = [key for key in model.state_dict() if key not in keys]
        assert more and all(CHILD in key or "_hubcli_attention" in key for key in more), more
        assert type(model).__name__ == type(tiny(family)).__name__
        handle.unfuse()
        assert traces(model) == before, expr
        assert torch.equal(under(handle, inputs, expr), expected)


def test_a_learned_mix() -> None:
    handle, inputs = mixture("bert", "pfeiffer", "pfeiffer"), inputs_of("bert")
    add_frozen(handle, "fusion", "mix", {"of": ["a", "b"]}, 9)
    expr = Fuse("a", "b", by="mix")
    expected = under(handle, inputs, expr)
    handle.fuse(expr)
    assert apart(output(handle.model, inputs), expected) <= 1e-12
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in handle.model.modules())


@pytest.mark.parametrize(
    ("family", "kinds", "expr"),
    [
        ("bert", ("pfeiffer", "parallel"), Stack("a", "b")),
        ("gpt2", ("shifted", "prefix"), Stack("a", "b")),
        ("llama", ("prefix", "prefix"), BatchSplit("a", "b", sizes=[2, 1])),
    ],
)
def test_it_moves_copies_and_pickles_as_modules_do(family: str, kinds: tuple[str, ...], expr: Expr) -> None:
    handle, inputs = mixture(family, *kinds), inputs_of(family)
    handle.fuse(expr)
    expected = output(handle.model, inputs)
    twin = copy.deepcopy(handle.model)
    again = pickle.loads(pickle.dumps(handle.model))
    handle.unfuse()
    for model in (twin, again):
        assert torch.equal(output(model, inputs), expected)
        model.float()
        assert all(b.dtype != torch.float64 for b in model.buffers())
        assert apart(output(model, inputs), expected) <= 1e-4
    adapt(twin).unfuse()
    assert CHILD not in str(list(twin.state_dict()))


@pytest.mark.parametrize("kinds", [("shifted", "shifted"), ("pfeiffer", "lora")])
def test_it_generates_as_the_hooks_do(kinds: tuple[str, ...]) -> None:
    handle, ids = mixture("gpt2", *kinds), inputs_of("gpt2")["input_ids"][:2]
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    with handle.using(Stack("a", "b")):
        expected = handle.generate(ids, **options)
    handle.fuse(Stack("a", "b"))
    assert torch.equal(handle.model.generate(ids, **options), expected)  # type: ignore[operator]
    assert torch.equal(handle.generate(ids, **options), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "kinds"),
    [("bert", ("pfeiffer", "parallel")), ("gpt2", ("shifted", "prefix")), ("llama", ("prefix", "lora"))],
)
def test_it_compiles_without_a_break(family: str, kinds: tuple[str, ...]) -> None:
    handle, inputs = mixture(family, *kinds), inputs_of(family)
    handle.fuse(Stack("a", "b"))
    with torch.no_grad():
        expected = handle.model(**inputs).logits
        found = torch.compile(handle.model, backend="eager", fullgraph=True)(**inputs).logits
    assert apart(found, expected) <= 1e-12


@pytest.mark.parametrize("made", [tf.BertModel, tf.BertForMaskedLM])
def test_a_head_that_an_adapter_brought_answers_still(made: type) -> None:
    """By the handle, which lends the model a hook for the length of the call; a checkpoint can't hold it."""
    handle = adapt(made.from_pretrained(BERT / "base").eval())  # type: ignore[attr-defined]
    handle.load(BERT / "adapters" / "sst_with_head", "sst")
    inputs = {key: INPUTS[key] for key in ("input_ids", "attention_mask")}
    handle.activate("sst")
    with torch.no_grad():
        expected = handle(**inputs).logits
        with pytest.raises(UnsupportedError, match="'sst' brings a head of its own"):
            fuse(handle.engine, None, weights_only=True)
        handle.fuse()
        assert apart(handle(**inputs).logits, expected) <= 1e-6
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in handle.model.modules())
