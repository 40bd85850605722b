"""Half precision and moves, for every method: inference, training, autocast, `.to()` before, while and after."""

from __future__ import annotations

import copy
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, BatchSplit, Expr, Parallel, Stack

from .methods import METHODS, noisy
from .models import apart, inputs_of, logits, model_of

pytestmark = pytest.mark.filterwarnings("ignore")
HALVES = [torch.bfloat16, torch.float16]
EXPRS: list[Expr] = [
    "a",
    Stack("a", "b"),
    Average("a", None, "b"),
    BatchSplit("a", "b", sizes=[1, 2]),
    Parallel("a", "b"),
]
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def tiny(dtype: torch.dtype = torch.float64) -> Any:
    return model_of("bert", dtype, **STILL)


INPUTS = inputs_of("bert")  # made once: threads share torch's random numbers


def under(handle: Adapted, expr: Expr = None, rows: Any = None) -> Tensor:
    with handle.using(expr, rows):
        return logits(handle.model, INPUTS)


def near(found: Tensor, expected: Tensor, share: float = 0.06) -> bool:
    """Within a share of how large the numbers are."""
    return apart(found.double(), expected.double()) <= share * max(1.0, expected.abs().max().item())


def gradients(handle: Adapted, expr: Expr = "a") -> dict[str, Tensor]:
    handle.trainable("a")
    with handle.using(expr):
        handle.model(**inputs_of("bert")).logits.float().square().sum().backward()
    room = handle.engine.adapters["a"].room
    return {key: p.grad for key, p in room.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_half_precision_answers_nearly_as_double(method: str, dtype: torch.dtype) -> None:
    handle = noisy(method, "ab", tiny())
    expected = {expr: under(handle, expr) for expr in (None, "b", *EXPRS)}
    handle.activate("b")
    handle.model.to(dtype)
    assert {p.dtype for p in handle.model.parameters()} == {dtype}
    for expr in EXPRS:
        found = under(handle, expr)
        assert found.dtype == dtype and near(found, expected[expr]), expr
        assert not near(found, expected[None].repeat(len(found) // 3, 1), 0.001), expr
    rows = under(handle, rows=["a", None, "b"])
    assert near(rows, torch.stack([expected[expr][i] for i, expr in enumerate(["a", None, "b"])]))
    assert near(logits(handle.model, inputs_of("bert")), expected["b"])


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_half_precision_trains_in_float32(method: str, dtype: torch.dtype) -> None:
    for expr in ("a", Stack("b", "a"), Average("a", "b")):
        expected = gradients(noisy(method, "ab", tiny()), expr)
        handle = noisy(method, "ab", tiny())
        handle.model.to(dtype)
        found = gradients(handle, expr)
        assert {p.dtype for p in handle.trainable("a")} == {torch.float32}
        assert found.keys() == expected.keys() and all(torch.isfinite(grad).all() for grad in found.values())
        one, other = (torch.cat([g[key].double().flatten() for key in sorted(g)]) for g in (found, expected))
        assert torch.cosine_similarity(one, other, dim=0) > 0.97, expr


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_autocast_answers_and_trains_nearly_as_without(method: str, dtype: torch.dtype) -> None:
    handle = noisy(method, "ab", tiny(torch.float32))
    expected = {expr: under(handle, expr) for expr in EXPRS}
    with torch.autocast("cpu", dtype):
        for expr in EXPRS:
            assert near(under(handle, expr), expected[expr]), expr
    plain = gradients(noisy(method, "ab", tiny(torch.float32)))
    with torch.autocast("cpu", dtype):
        found = gradients(handle)
    one, other = (torch.cat([g[key].flatten() for key in sorted(g)]) for g in (found, plain))
    assert one.dtype == torch.float32 and torch.cosine_similarity(one, other, dim=0) > 0.97


@pytest.mark.parametrize("method", METHODS)
def test_numbers_follow_a_model_that_moves(method: str) -> None:
    """Active and idle, frozen and training: dtype there and back, and to the device that every torch has."""
    handle = noisy(method, "ab", tiny())
    expected = under(handle, Stack("a", "b"))
    handle.activate(Stack("a", "b"))
    for trained in ([], ["a"]):
        handle.trainable(trained)
        handle.model.to(torch.float32)
        assert near(logits(handle.model, inputs_of("bert")), expected, 1e-4)
        handle.model.to("cpu", torch.float64)
        assert near(logits(handle.model, inputs_of("bert")), expected, 1e-4)
    moved = {"input_ids": inputs_of("bert")["input_ids"].to("meta")}
    handle.model.to("meta")
    assert {p.device.type for p in handle.model.parameters()} == {"meta"}
    for program in ({"expr": Stack("a", "b")}, {"rows": ["a", None, "b"]}, {"expr": Average("a", "b")}):
        with handle.using(**program):  # type: ignore[arg-type]
            assert logits(handle.model, moved).device.type == "meta"


@pytest.mark.parametrize("stored", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_files_of_another_dtype_are_cast_to_the_base(method: str, stored: torch.dtype, tmp_path: Path) -> None:
    handle = noisy(method, "a", tiny(torch.float32))
    handle.save("a", tmp_path, format="hubcli")
    file = next(tmp_path.glob("*.safetensors"))
    tensors = {key: tensor.to(stored) for key, tensor in load_file(file).items()}
    save_file(tensors, file)
    fresh = adapt(tiny(torch.float32))
    fresh.load(tmp_path, "a")
    found = under(fresh, "a")
    assert found.dtype == torch.float32 and near(found, under(handle, "a"), 0.02)
    assert {p.dtype for p in fresh.trainable("a")} <= {torch.float32, torch.float64}
    assert near(under(fresh, "a"), found, 1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_base_saves_copies_and_pickles_as_itself(method: str, tmp_path: Path) -> None:
    bare: Any = tiny(torch.float32)
    bare.save_pretrained(tmp_path / "bare")
    handle = noisy(method, "ab", tiny(torch.float32))
    handle.activate(Stack("a", "b"))
    handle.trainable("a")
    expected = logits(handle.model, inputs_of("bert"))
    handle.model.save_pretrained(tmp_path / "adapted")  # type: ignore[operator]
    files = [{f.name: f.read_bytes() for f in (tmp_path / place).iterdir()} for place in ("bare", "adapted")]
    assert files[0] == files[1]
    again = type(bare).from_pretrained(tmp_path / "adapted")
    assert torch.equal(logits(again.eval(), inputs_of("bert")), logits(bare, inputs_of("bert")))
    for twin in (copy.deepcopy(handle.model), pickle.loads(pickle.dumps(handle.model))):
        assert torch.equal(logits(twin, inputs_of("bert")), expected)
        adapt(twin).activate(None)
        assert torch.equal(logits(twin, inputs_of("bert")), logits(bare, inputs_of("bert")))
    assert torch.equal(logits(handle.model, inputs_of("bert")), expected)


@pytest.mark.parametrize("method", METHODS)
def test_four_threads_have_their_own_choices(method: str) -> None:
    handle = noisy(method, "abc", tiny(torch.float32))
    choices: list[dict[str, Any]] = [
        {"expr": "a"}, {"expr": Stack("b", "c")}, {"rows": ["a", None, "c"]}, {"expr": Parallel("b", "a")},
    ]  # fmt: skip
    expected = [under(handle, **choice) for choice in choices]
    assert all(apart(one[:3], other[:3]) > 1e-2 for n, one in enumerate(expected) for other in expected[:n])
    wrong: list[Any] = []

    def work(i: int) -> None:
        for _ in range(12):
            found = under(handle, **choices[i])
            if found.shape != expected[i].shape or apart(found, expected[i]) > 1e-5:
                wrong.append((choices[i], apart(found, expected[i])))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("method", METHODS)
def test_an_error_in_forward_leaves_no_hook_and_no_routing(method: str) -> None:
    handle = noisy(method, "ab", tiny())
    expected = {name: under(handle, name) for name in ("a", None)}

    def hooks() -> dict[str, tuple[int, int]]:
        named = handle.model.named_modules()
        return {name: (len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in named}

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    choices: tuple[dict[str, Any], ...] = ({"expr": "b"}, {"rows": ["a", "b", None]}, {"expr": Parallel("a", "b")})
    for choice in choices:
        handle(**inputs_of("bert"), **choice)  # a first Parallel hooks the layers, for good
    before = hooks()
    handle.activate("a")
    for choice in choices:
        hook = handle.model.bert.encoder.layer[1].attention.register_forward_hook(fail)  # type: ignore[union-attr]
        with pytest.raises(ZeroDivisionError):
            handle(**inputs_of("bert"), **choice)
        hook.remove()
        assert hooks() == before and handle.active == "a"
        assert torch.equal(logits(handle.model, inputs_of("bert")), expected["a"])
    handle.activate(None)
    assert torch.equal(logits(handle.model, inputs_of("bert")), expected[None])
