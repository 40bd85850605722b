"""fuse and unfuse: a composition in the model's own weights, against hand-folded weights, peft's merge, and the hooks."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hubcli.adapted import adapt
from hubcli.composition import Average, Expr, Stack
from hubcli.errors import UnsupportedError
from hubcli.fuse import fuse
from hubcli.testing import inputs_of as tiny_inputs
from hubcli.testing import output

from .conftest import Lab
from .fused import KINDS, assert_same, hooks, mixture, state
from .models import FAMILIES, apart, inputs_of, logits, model_of, peft_adapter

pytestmark = pytest.mark.filterwarnings("ignore")
Tree = Callable[..., Lab]
MIXED = Stack("a", Average("b", "c", weights=[0.7, -0.4]), "b")
ALL = {"a": 1.0, "b": 1.7, "c": -0.4}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_it_is_the_hand_folded_model(family: str, lab: Tree) -> None:
    made = lab(family)
    before, expected = state(made.base), made.folded(**ALL)
    assert apart(expected, made.under(None)) > 1e-3
    keys = list(made.base.state_dict())
    assert made.handle.fuse(MIXED) is made.base
    assert apart(logits(made.base, made.inputs), expected) <= 1e-10
    assert list(made.base.state_dict()) == keys and hooks(made.base) == []
    made.handle.unfuse()
    assert_same(before, made.base)
    assert apart(made.under(MIXED), expected) <= 1e-10 and torch.equal(made.under(None), logits(made.base, made.inputs))


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("bert", {"use_dora": True}),
        ("gpt2", {"use_dora": True}),
        ("bert", {"use_rslora": True, "rank_pattern": {"query": 5}, "alpha_pattern": {"value": 9}}),
        ("bert", {"lora_bias": True}),
        ("bert", {"bias": "lora_only"}),
        ("bert", {"target_modules": ["word_embeddings", "query"], "use_dora": True}),
        ("gpt2", {"target_modules": ["wte", "wpe", "c_fc"]}),
        ("vit", {"target_modules": ["projection", "q_proj"]}),
        ("vit", {"target_modules": ["projection"], "use_dora": True}),
        ("albert", {"target_modules": ["query", "ffn"]}),
        ("t5", {"target_modules": ["q", "wo", "lm_head"]}),
    ],
)
def test_it_is_what_peft_merges(family: str, options: dict[str, Any], tmp_path: Path) -> None:
    base, inputs = model_of(family), inputs_of(family)
    settings = {"r": 3, "lora_alpha": 5, "target_modules": FAMILIES[family][3], **options}
    tuned = peft_adapter(base, tmp_path / "a", "", **settings)
    live = logits(tuned, inputs)
    merged = tuned.merge_and_unload().state_dict()
    handle, before = adapt(base), state(base)
    handle.load(tmp_path / "a", "a")
    handle.fuse("a")
    assert apart(logits(base, inputs), live) <= 1e-10
    if not {"wte", "lm_head"} & {*settings["target_modules"]}:  # peft merges into weights that other modules share
        for key, tensor in base.state_dict().items():
            assert apart(tensor, merged[key]) <= 1e-12, key
    handle.unfuse()
    assert_same(before, base)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_back_to_the_bit_in_every_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    """In low precision sums are made in float32 and rounded once; the largest rounding is stated."""
    fine, base = model_of("bert", torch.float32), model_of("bert", torch.float32).to(dtype)
    fine.load_state_dict(base.state_dict())
    for seed, name in enumerate("ab"):
        peft_adapter(fine, tmp_path / name, "SEQ_CLS", seed, r=3, target_modules=["query", "value"])
    for model in (fine, base):
        adapt(model).load(tmp_path / "a", "a")
        adapt(model).load(tmp_path / "b", "b")
    before = state(base)
    adapt(fine).fuse(Stack("a", "b"))
    adapt(base).fuse(Stack("a", "b"))
    made = adapt(base).engine.fused
    assert made is not None
    largest = 0.0
    for (key, tensor), exact in zip(base.state_dict().items(), fine.state_dict().values(), strict=True):
        assert torch.equal(tensor, exact.to(dtype)), key
        largest = max(largest, apart(tensor.float(), exact))
    assert made.rounding == largest and (largest > 0) is (dtype != torch.float32)
    adapt(base).unfuse()
    assert_same(before, base)


def tree(rng: random.Random, depth: int = 3) -> Expr:
    if not depth or rng.random() < 0.25:
        return rng.choice(["a", "b", "c", "d", None])
    children = [tree(rng, depth - 1) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.5:
        return Stack(*children)
    return Average(*children, weights=[rng.uniform(-1, 1) for _ in children])


def test_any_tree_of_foldable_leaves_is_its_hooks() -> None:
    handle, inputs, rng = mixture("bert", *KINDS), tiny_inputs("bert"), random.Random(7)
    before, seen = state(handle.model), 0
    for expr in [Stack("a", "b"), Average("b", "a", weights=[0.6, 0.3]), *(tree(rng) for _ in range(40))]:
        if expr is None:
            continue
        with handle.using(expr):
            expected = output(handle.model, inputs)
        handle.fuse(expr)
        made = handle.engine.fused
        assert made is not None and not made.modules, expr
        seen += bool(made.weights)
        assert apart(output(handle.model, inputs), expected) <= 1e-10, expr
        handle.unfuse()
    assert seen > 30
    assert_same(before, handle.model)


def test_tied_weights_are_untied_and_the_config_says_so(tmp_path: Path) -> None:
    base: Any = model_of("gpt2")
    inputs, before = inputs_of("gpt2"), state(base)
    peft_adapter(base, tmp_path / "a", "", r=3, target_modules=["wte"])
    handle = adapt(base)
    handle.load(tmp_path / "a", "a")
    with handle.using("a"):
        expected = logits(base, inputs)
    handle.fuse("a")
    assert apart(logits(base, inputs), expected) <= 1e-10
    assert base.lm_head.weight is not base.transformer.wte.weight and base.config.tie_word_embeddings is False
    handle.unfuse()
    assert base.lm_head.weight is base.transformer.wte.weight and base.config.tie_word_embeddings is True
    assert_same(before, base)


def test_a_head_becomes_the_models_own(tmp_path: Path) -> None:
    base: Any = model_of("bert", num_labels=3)
    base.config.id2label = {0: "x", 1: "y", 2: "z"}
    peft_adapter(base, tmp_path / "a", "SEQ_CLS", r=2, target_modules=["query"])
    handle, inputs, own = adapt(base), inputs_of("bert"), base.classifier
    handle.load(tmp_path / "a", "a")
    handle.engine.adapters["a"].labels = ("p", "q", "r")
    with handle.using("a"):
        expected = logits(base, inputs)
    handle.fuse("a")
    assert base.classifier is not own and "forward" not in base.classifier.__dict__
    assert apart(logits(base, inputs), expected) <= 1e-10 and base.config.id2label == {0: "p", 1: "q", 2: "r"}
    with torch.no_grad():
        base.classifier.weight.zero_()  # of the model alone: the adapter's own stays
    handle.unfuse()
    assert base.classifier is own and base.config.id2label == {0: "x", 1: "y", 2: "z"}
    with handle.using("a"):
        assert apart(logits(base, inputs), expected) <= 1e-10


@pytest.mark.parametrize(("family", "modules"), [("bert", 0), ("roberta", 1)])
def test_the_mean_of_heads(family: str, modules: int, tmp_path: Path) -> None:
    """Linear heads average in one linear module; others run side by side in an ordinary one, which is no weight."""
    base, inputs = model_of(family), inputs_of(family)
    handle = adapt(base)
    for seed, name in enumerate("ab"):
        peft_adapter(base, tmp_path / name, "SEQ_CLS", seed, r=2, target_modules=["query"])
        handle.load(tmp_path / name, name)
    before, expr = state(base), Average("a", "b", weights=[0.6, 0.2])
    with handle.using(expr):
        expected = logits(base, inputs)
    handle.fuse(expr)
    assert handle.engine.fused is not None and len(handle.engine.fused.modules) == modules
    assert apart(logits(base, inputs), expected) <= 1e-10 and hooks(base) == []
    handle.unfuse()
    assert_same(before, base)
    if modules:
        with pytest.raises(UnsupportedError, match="classifier"):
            fuse(handle.engine, expr, weights_only=True)


def test_one_adapters_lora_on_another_ones_head(tmp_path: Path) -> None:
    base = model_of("bert")
    peft_adapter(base, tmp_path / "a", "SEQ_CLS", r=2, target_modules=["query"])
    peft_adapter(base, tmp_path / "b", "", 2, r=1, target_modules=["classifier", "pooler.dense"])
    handle, inputs = adapt(base), inputs_of("bert")
    for name in "ab":
        handle.load(tmp_path / name, name)
    with handle.using(Stack("a", "b")):
        expected = logits(base, inputs)
    handle.fuse(Stack("a", "b"))
    assert apart(logits(base, inputs), expected) <= 1e-10
    handle.unfuse()
    with handle.using("a"):
        assert apart(logits(base, inputs), expected) > 1e-3


class Outer(nn.Module):
    """A model of one module."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        return out


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Embedding(9, 4, max_norm=0.5),
    ],
    ids=["groups", "padding", "norm"],
)
def test_a_lora_that_no_weight_equals_acts_around_its_module(module: nn.Module) -> None:
    """It reads what the module's own weights don't, or is not scaled as they are."""
    model = Outer(copy.deepcopy(module)).double().eval()
    x = torch.arange(6).view(2, 3) if isinstance(module, nn.Embedding) else torch.randn(2, 4, 5, 5).double()
    handle = adapt(model)
    handle.add("lora", "a", {"r": 2, "target_modules": ["inner"]}, head=None)
    with torch.no_grad():
        for parameter in handle.trainable("a"):
            parameter.add_(torch.randn_like(parameter))
        handle.trainable([])
        with handle.using("a"):
            expected = model(x)
        handle.fuse("a")
        assert handle.engine.fused is not None and handle.engine.fused.modules == ["inner"]
        assert apart(model(x), expected) <= 1e-12 < apart(expected, copy.deepcopy(module).double()(x))
