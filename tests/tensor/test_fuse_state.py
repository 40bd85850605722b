"""fuse and unfuse: what is refused, and what state a model, its hooks and its copies are in before, meanwhile and after."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, BatchSplit, Expr, Fuse, Parallel, Split, Stack
from hubcli.errors import AdapterError, BusyError, FusedError, NotFoundError, UnsupportedError, WeightsError
from hubcli.fuse import fuse
from hubcli.swaps import ParameterSwap
from hubcli.testing import inputs_of as tiny_inputs
from hubcli.testing import output, tiny

from .fused import KINDS, assert_same, hooks, mixture, state
from .methods import noisy
from .models import apart, inputs_of, logits, model_of, peft_adapter

pytestmark = pytest.mark.filterwarnings("ignore")


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
