"""fuse and unfuse: a composition in the model's own weights, against hand-folded weights, peft's merge, and the hooks."""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, BatchSplit, Expr, Fuse, Parallel, Split, Stack
from hubcli.errors import AdapterError, BusyError, FusedError, NotFoundError, UnsupportedError, WeightsError
from hubcli.fuse import fuse
from hubcli.swaps import ParameterSwap
from hubcli.testing import inputs_of as tiny_inputs
from hubcli.testing import output, tiny

from .conftest import Lab
from .methods import noisy
from .models import FAMILIES, apart, inputs_of, logits, model_of, peft_adapter

pytestmark = pytest.mark.filterwarnings("ignore")
Tree = Callable[..., Lab]
MIXED = Stack("a", Average("b", "c", weights=[0.7, -0.4]), "b")
ALL = {"a": 1.0, "b": 1.7, "c": -0.4}


def state(model: nn.Module) -> dict[str, tuple[int, bool, Tensor]]:
    """Every parameter and buffer: which object, whether it trains, its bits."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: (id(t), t.requires_grad, t.detach().clone()) for name, t in tensors}


def assert_same(before: dict[str, tuple[int, bool, Tensor]], model: nn.Module) -> None:
    now = state(model)
    assert list(now) == list(before)
    for name, (number, flag, bits) in before.items():
        assert now[name][:2] == (number, flag) and torch.equal(now[name][2], bits), name


def hooks(model: nn.Module) -> list[str]:
    return [
        name for name, m in model.named_modules() if m._forward_hooks or m._forward_pre_hooks or "forward" in m.__dict__
    ]


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


def mixture(family: str, *more: tuple[str, dict[str, Any]]) -> Adapted:
    """Frozen random adapters a, b, … of several methods and configs on one tiny model."""
    handle = adapt(tiny(family))
    for seed, (name, (method, config)) in enumerate(zip("abcdef", more, strict=False), 1):
        torch.manual_seed(seed)
        handle.add(method, name, config, head=None)
        with torch.no_grad():
            for parameter in handle.trainable(name):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    handle.trainable([])
    return handle


LORA = {"r": 3, "target_modules": ["query", "value", "dense"]}
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("lora", LORA),
    ("lora", {**LORA, "use_dora": True}),
    ("bitfit", {}),
    ("lora", {**LORA, "lora_bias": True, "r": 2}),
]


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


def test_what_is_active_is_fused_and_active_again() -> None:
    handle, inputs = mixture("bert", *KINDS), tiny_inputs("bert")
    handle.activate(Stack("a", "c"))
    expected = output(handle.model, inputs)
    handle.fuse()
    assert handle.active == Stack("a", "c") and apart(output(handle.model, inputs), expected) <= 1e-10
    handle.unfuse()
    assert torch.equal(output(handle.model, inputs), expected)
    handle.fuse("b")
    assert handle.active == "b"
    handle.unfuse()
    assert handle.active == Stack("a", "c") and torch.equal(output(handle.model, inputs), expected)


def test_what_trains_folds_as_it_is_now() -> None:
    handle, inputs = mixture("bert", *KINDS), tiny_inputs("bert")
    parameters = handle.trainable(["a", "b"])
    handle.activate(Average("a", "b"))
    handle.model(**inputs).logits.square().sum().backward()
    torch.optim.SGD(parameters, lr=0.1).step()
    expected, before = output(handle.model, inputs), state(handle.model)
    handle.fuse()
    assert apart(output(handle.model, inputs), expected) <= 1e-10
    handle.unfuse()
    assert_same(before, handle.model)


VERBS: dict[str, Callable[[Adapted], object]] = {
    "load": lambda handle: handle.load("./nowhere"),
    "add": lambda handle: handle.add("bitfit", "new"),
    "activate": lambda handle: handle.activate("a"),
    "using": lambda handle: handle.using("a").__enter__(),
    "trainable": lambda handle: handle.trainable("a"),
    "detach": lambda handle: handle.detach(),
    "fuse": lambda handle: handle.fuse("a"),
}


@pytest.mark.parametrize("verb", list(VERBS))
def test_not_while_fused(verb: str) -> None:
    handle = mixture("bert", *KINDS)
    handle.fuse("a")
    with pytest.raises(FusedError, match=f"{verb}: a is fused"):
        VERBS[verb](handle)
    for call in (lambda: handle(expr="b"), lambda: handle.predict("x", expr="b"), lambda: handle.generate(expr=None)):
        with pytest.raises(FusedError):
            call()
    handle.unfuse()
    with pytest.raises(FusedError, match="nothing is fused"):
        handle.unfuse()
    if verb not in ("load", "using"):
        VERBS[verb](handle)


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ("bb", NotFoundError, "no adapter 'bb' is loaded"),
        (Stack("a", "lore"), NotFoundError, "lore"),
        (None, AdapterError, "none is active"),
        (Parallel("a", "b"), UnsupportedError, "parallel"),
        (Fuse("a", "b", by="mix"), NotFoundError, "mix"),
    ],
)
def test_what_can_not_be_fused_is_an_error_and_no_no_op(given: Expr, error: type[Exception], match: str) -> None:
    handle = mixture("bert", *KINDS)
    before = state(handle.model)
    with pytest.raises(error, match=match) as caught:
        handle.fuse(given)
    assert given != "bb" or caught.value.hint == "did you mean 'b'?"  # type: ignore[attr-defined]
    assert handle.engine.fused is None
    assert_same(before, handle.model)


def test_rows_and_open_blocks_are_refused() -> None:
    handle = mixture("bert", *KINDS)
    with handle.using("a"), pytest.raises(FusedError, match="using block is open"):
        handle.fuse("a")
    handle.activate(rows=["a", "b", None])
    with pytest.raises(UnsupportedError, match="rows of each batch"):
        handle.fuse()


def test_a_running_forward_is_busy() -> None:
    handle, inputs = mixture("bert", *KINDS), tiny_inputs("bert")
    inside, go = threading.Event(), threading.Event()

    def wait(*_: Any) -> None:
        inside.set()
        go.wait(10)

    hook = handle.structure.modules["bert.encoder.layer.0"].register_forward_hook(wait)
    thread = threading.Thread(target=output, args=(handle.model, inputs))
    thread.start()
    try:
        assert inside.wait(10)
        with pytest.raises(BusyError, match="fuse"):
            handle.fuse("a")
    finally:
        go.set()
        thread.join()
        hook.remove()
    handle.fuse("a")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["a", "b", "c", "base", "head"])
def test_no_number_but_finite_ones(where: str, value: float, tmp_path: Path) -> None:
    """Refused before the first weight is touched; the message names the module, and the adapter if it is one's."""
    base = model_of("bert", torch.float32)
    handle = adapt(base)
    peft_adapter(base, tmp_path / "a", "SEQ_CLS", 1, r=2, target_modules=["query", "value"])
    handle.load(tmp_path / "a", "a")
    handle.add("bitfit", "c", {}, head=None)
    handle.add("lora", "b", {"r": 2, "target_modules": ["query"]}, head=None)
    handle.trainable([])
    last = "bert.encoder.layer.1.attention.self.query"
    with torch.no_grad():
        if where == "base":
            base.get_submodule(last).weight[3, 4] = value  # type: ignore[operator, index]
        elif where == "head":
            next(iter(handle.engine.adapters["a"].heads["classifier"].parameters())).view(-1)[-1] = value
        else:
            site = next(site for site in handle.engine.adapters[where].sites if site.path == last)
            next(iter(handle.engine.adapters[where].sites[site].values())).view(-1)[-1] = value
    before = state(base)
    with pytest.raises(WeightsError, match="NaN or infinity") as caught:
        handle.fuse(Stack("a", "b", "c"))
    assert caught.value.id == "E_WEIGHTS_NONFINITE"
    assert ("classifier" if where == "head" else last) in caught.value.message
    assert where in ("base", "head") or f"'{where}'" in caught.value.message
    assert torch.equal(torch.stack([b.nan_to_num().sum() for _, _, b in before.values()]),
                       torch.stack([b.nan_to_num().sum() for _, _, b in state(base).values()]))  # fmt: skip
    assert [n for n, _, _ in before.values()] == [n for n, _, _ in state(base).values()] and hooks(base)


def test_a_sum_beyond_the_dtype_is_refused(tmp_path: Path) -> None:
    base = model_of("bert", torch.float32)
    peft_adapter(base, tmp_path / "a", "", r=2, target_modules=["query"], lora_alpha=1_000_000)
    half = base.half()
    handle = adapt(half)
    handle.load(tmp_path / "a", "a")
    with pytest.raises(WeightsError, match="beyond the numbers of float16") as caught:
        handle.fuse("a")
    assert "query" in caught.value.message and handle.engine.fused is None


def test_an_error_in_the_middle_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    handle, inputs = mixture("bert", *KINDS), tiny_inputs("bert")
    handle.activate("a")
    before, expected, own, put = (
        state(handle.model),
        output(handle.model, inputs),
        hooks(handle.model),
        ParameterSwap.put,
    )
    count = iter(range(100))

    def fail(self: ParameterSwap) -> None:
        if next(count) == 3:
            raise KeyboardInterrupt
        put(self)

    monkeypatch.setattr(ParameterSwap, "put", fail)
    with pytest.raises(KeyboardInterrupt):
        handle.fuse(Stack("a", "c"))
    assert_same(before, handle.model)
    assert hooks(handle.model) == own and torch.equal(output(handle.model, inputs), expected)


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


@pytest.mark.parametrize(
    ("expr", "match"),
    [
        ("e", r"output.*e \(bottleneck\)|e \(bottleneck\).*output"),
        ("f", r"f \(prefix\) adds keys and values"),
        (Split("a", "b", sizes=[3, 4]), "split"),
        (BatchSplit("a", None, sizes=[2, 1]), "batchsplit"),
    ],
)
def test_what_is_no_weight_is_refused_by_name_where_weights_alone_count(expr: Expr, match: str) -> None:
    pfeiffer = {"mh_adapter": False, "output_adapter": True, "reduction_factor": 4, "non_linearity": "relu"}
    handle = mixture("bert", *KINDS, ("bottleneck", pfeiffer), ("prefix", {"prefix_length": 2}))
    before = state(handle.model)
    with pytest.raises(UnsupportedError, match=f"(?i){match}") as caught:
        fuse(handle.engine, expr, weights_only=True)
    assert "checkpoint" in caught.value.message
    assert_same(before, handle.model)


def test_a_model_that_moves_while_fused_comes_back_moved() -> None:
    handle, inputs = mixture("bert", *KINDS), tiny_inputs("bert")
    ids = {name: number for name, (number, _, _) in state(handle.model).items()}
    plain = copy.deepcopy(tiny("bert")).to(torch.bfloat16)
    handle.activate("a")
    handle.fuse()
    handle.model.to(torch.bfloat16)
    assert output(handle.model, inputs).dtype == torch.bfloat16
    handle.unfuse()
    assert {name: number for name, (number, _, _) in state(handle.model).items()} == ids
    assert all(torch.equal(t, plain.state_dict()[key]) for key, t in handle.model.state_dict().items())
    twin = mixture("bert", *KINDS)
    twin.model.to(torch.bfloat16)
    twin.activate("a")
    assert torch.equal(output(handle.model, inputs), output(twin.model, inputs))


def test_a_copy_is_unfused_on_its_own() -> None:
    handle, inputs = mixture("bert", *KINDS), tiny_inputs("bert")
    bare = output(handle.model, inputs)
    handle.fuse(Stack("a", "b"))
    fused = output(handle.model, inputs)
    other = adapt(copy.deepcopy(handle.model))
    assert other is not handle and torch.equal(output(other.model, inputs), fused)
    other.unfuse()
    assert torch.equal(output(other.model, inputs), bare) and torch.equal(output(handle.model, inputs), fused)
    handle.unfuse()
    assert torch.equal(output(handle.model, inputs), bare)


def test_other_hooks_keep_their_place() -> None:
    handle, inputs = mixture("bert", *KINDS), tiny_inputs("bert")
    module = handle.structure.modules["bert.encoder.layer.0.attention.self.query"]
    seen: list[str] = []
    module.register_forward_hook(lambda *_: seen.append("late"))
    module.register_forward_hook(lambda *_: seen.append("early"), prepend=True)
    order = list(module._forward_hooks)
    handle.fuse("a")
    output(handle.model, inputs)
    assert seen == ["early", "late"]
    third = module.register_forward_hook(lambda *_: None)
    handle.unfuse()
    assert list(module._forward_hooks) == [*order, third.id]
    third.remove()
    handle.detach()
    assert len(module._forward_hooks) == 2


def test_hooks_of_others_run_on_a_replaced_head(tmp_path: Path) -> None:
    base: Any = model_of("bert")
    peft_adapter(base, tmp_path / "a", "SEQ_CLS", r=2, target_modules=["query"])
    seen: list[torch.Size] = []
    base.classifier.register_forward_hook(lambda module, args, out: seen.append(out.shape))
    handle = adapt(base)
    handle.load(tmp_path / "a", "a")
    handle.fuse("a")
    logits(base, inputs_of("bert"))
    handle.unfuse()
    logits(base, inputs_of("bert"))
    assert len(seen) == 2


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


@pytest.mark.slow
def test_compiled_before_and_after() -> None:
    """What was compiled under hooks runs the fused weights, and the hooks again after unfuse."""
    handle, inputs = noisy("lora", "ab"), inputs_of("bert")
    handle.activate("a")
    compiled = torch.compile(handle.model, backend="eager", fullgraph=True)
    expected = logits(compiled, inputs)
    with handle.using("b"):
        other = logits(handle.model, inputs)
    for expr, wanted in (("a", expected), ("b", other)):
        handle.fuse(expr)
        assert apart(logits(compiled, inputs), wanted) <= 1e-10
        handle.unfuse()
        assert apart(logits(compiled, inputs), expected) <= 1e-10
