"""Gradients of every method in every block, against finite differences of the forward in float64; and checkpointing's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hubcli.adapted import Adapted
from hubcli.composition import Average, BatchSplit, Fuse, Parallel, Split, Stack
from hubcli.errors import AdapterError, UnsupportedError

from .methods import METHODS, REFUSED, noisy
from .models import inputs_of, model_of

pytestmark = pytest.mark.filterwarnings("ignore")
BLOCKS: dict[str, dict[str, Any]] = {
    "alone": {"expr": "a"},
    "stack": {"expr": Stack("b", "a")},
    "stack below": {"expr": Stack("a", None, "b")},
    "average": {"expr": Average("a", "b", None, weights=[0.7, 0.5, 0.4])},
    "split": {"expr": Split("b", "a", sizes=[3, 4])},
    "batchsplit": {"expr": BatchSplit("a", "b", sizes=[2, 1])},
    "parallel": {"expr": Parallel("a", "b", None)},
    "rows": {"rows": ["b", "a", None]},
    "fuse": {"expr": Fuse("a", "b", by="mix")},
    "nested": {"expr": Stack("b", BatchSplit(Average("a", "b"), Stack("a", "b"), sizes=[1, 2]))},
    "twice": {"rows": ["a", Stack("a", "b"), "a"]},
}
CASES = [(method, block) for method in METHODS for block in BLOCKS if (method, block) not in REFUSED]
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def made(method: str, block: str, dtype: torch.dtype = torch.float64) -> Adapted:
    handle = noisy(method, "ab", model_of("bert", dtype, **STILL))
    if block == "fuse":
        torch.manual_seed(5)
        handle.add("fusion", "mix", {"of": ["a", "b"]})
    return handle


def loss(handle: Adapted) -> Tensor:
    weights = torch.linspace(-1, 1, 2, dtype=torch.float64)
    return (handle.model(**inputs_of("bert")).logits.double() * weights).square().sum()


def difference(handle: Adapted, parameter: Tensor, direction: Tensor, step: float = 1e-5) -> float:
    """The loss's derivative along a direction, by two forwards."""
    with torch.no_grad():
        parameter.add_(direction, alpha=step)
        above = loss(handle)
        parameter.add_(direction, alpha=-2 * step)
        below = loss(handle)
        parameter.add_(direction, alpha=step)
    return ((above - below) / (2 * step)).item()


@pytest.mark.parametrize(("method", "block"), CASES)
def test_gradients_are_the_forwards_own_and_nobody_elses(method: str, block: str) -> None:
    handle = made(method, block)
    names = ["mix", "a"] if block == "fuse" else ["a"]
    parameters = handle.trainable(names)
    with handle.using(**BLOCKS[block]):
        loss(handle).backward()
        mine = {id(parameter) for parameter in parameters}
        assert all(p.grad is None for p in handle.model.parameters() if id(p) not in mine)
        assert sum(p.grad is not None and bool(p.grad.any()) for p in parameters) >= len(parameters) / 2
        torch.manual_seed(0)
        for parameter in parameters:
            direction = torch.randn_like(parameter)
            expected = difference(handle, parameter, direction)
            found = 0.0 if parameter.grad is None else (parameter.grad * direction).sum().item()
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-6), parameter.shape


@pytest.mark.parametrize(("method", "block"), sorted(REFUSED))
def test_what_has_no_meaning_is_refused_by_name(method: str, block: str) -> None:
    with pytest.raises(UnsupportedError, match=REFUSED[method, block]):
        made(method, block).activate(**BLOCKS[block])


def gradients(handle: Adapted, block: str) -> list[Tensor]:
    parameters = handle.trainable(["mix", "a", "b"] if block == "fuse" else ["a", "b"])
    with handle.using(**BLOCKS[block]):
        loss(handle).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]


@pytest.mark.parametrize("reentrant", [False, True], ids=["saved", "reentrant"])
@pytest.mark.parametrize(("method", "block"), CASES)
def test_checkpointing_changes_no_gradient(method: str, block: str, reentrant: bool) -> None:
    expected = gradients(made(method, block), block)
    handle = made(method, block)
    model: Any = handle.model.train()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    if reentrant:
        model.enable_input_require_grads()
    ran: list[int] = []
    model.bert.encoder.layer[0].intermediate.register_forward_hook(lambda *_: ran.append(1))
    found = gradients(handle, block)
    assert len(ran) == 2, "no block was computed again"
    assert all(torch.allclose(one, other, rtol=1e-9, atol=1e-12) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("reentrant", [False, True], ids=["saved", "reentrant"])
@pytest.mark.parametrize("method", METHODS)
def test_a_backward_after_another_choice_is_the_forwards_own(method: str, reentrant: bool) -> None:
    """The recompute belongs to its forward, whatever is active by then; two forwards under two choices are refused."""
    expected = gradients(made(method, "alone"), "alone")
    handle = made(method, "alone")
    model: Any = handle.model.train()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    if reentrant:
        model.enable_input_require_grads()
    parameters = handle.trainable(["a", "b"])
    with handle.using("a"):
        one = loss(handle)
    with handle.using("b"):
        one.backward()
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    assert all(torch.allclose(mine, other, rtol=1e-9, atol=1e-12) for mine, other in zip(found, expected, strict=True))
    run: Callable[[], Tensor] = lambda: loss(handle)  # noqa: E731
    with handle.using("a"):
        one = run()
    with handle.using("b"):
        other = run()
    with pytest.raises(AdapterError, match="checkpointing"):
        (one + other).backward()
