"""Rows by bank: every row gets what it gets alone, whichever way its group is computed, and banks are shared and bounded."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from hubcli import engine as engine_module
from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, BatchSplit, Expr, Parallel, Stack
from hubcli.steps import Banked
from hubcli.testing import apart, inputs_of, output, tiny

from .frozen import Given, frozen, under

ADAPTERS: dict[str, Given] = {
    "l2": ("lora", {"r": 2, "lora_alpha": 3, "target_modules": "all-linear"}),
    "l5": ("lora", {"r": 5, "use_rslora": True, "target_modules": "all-linear"}),
    "dora": ("lora", {"r": 2, "use_dora": True, "target_modules": "all-linear"}),
    "narrow": ("bottleneck", {"reduction_factor": 8, "non_linearity": "sigmoid"}),
    "wide": ("bottleneck", {"reduction_factor": 2, "non_linearity": "sigmoid", "scaling": "channel"}),
    "bias": ("bitfit", {}),
    "other bias": ("bitfit", {}),
}
ROWS: dict[str, list[Expr]] = {
    "in order": ["l2", "l5", None],
    "shuffled": ["l2", "l5", None, "l5", None, "l2"],
    "unequal": ["l5", "l2", "l2", None, "l2", "l2"],
    "bottlenecks": ["narrow", "wide", "wide", None],
    "biases": ["other bias", "bias", None, "bias"],
    "mixed methods": ["narrow", "l2", "bias", "wide", "l5", "other bias"],
    "sequences": [Stack("narrow", "wide"), Stack("wide", "narrow"), "wide", Stack("l2", "l5")],
    "sums": [Stack("l2", "l5"), Average("l2", "l5", weights=[0.3, -0.7]), "l5"],
    "no bank": ["dora", "l2", "l5", "dora"],
}


def made(family: str, dtype: torch.dtype = torch.float64) -> Adapted:
    biases: Given = ("bitfit", {"add_biases": True} if family == "llama" else {})
    given = [biases if one[0] == "bitfit" else one for one in ADAPTERS.values()]
    return frozen(tiny(family, dtype), *given, names=list(ADAPTERS), first_seed=0)


def alone(handle: Adapted, rows: Sequence[Expr], inputs: dict[str, Tensor]) -> Tensor:
    """Each row in a forward of its own."""
    ones = [{name: tensor[i : i + 1] for name, tensor in inputs.items()} for i in range(len(rows))]
    return torch.cat([under(handle, one, expr) for one, expr in zip(ones, rows, strict=True)])


def banked(handle: Adapted, expr: Expr = None, rows: Sequence[Expr] | None = None) -> list[Banked]:
    return [step for step in handle.engine.program(expr, rows).steps if isinstance(step, Banked)]


@pytest.mark.parametrize("length", [1, 7])
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_each_row_is_as_alone(family: str, length: int) -> None:
    handle = made(family)
    for label, rows in ROWS.items():
        inputs = inputs_of(family, rows=len(rows), length=length)
        with handle.using(None, rows):
            found = output(handle.model, inputs)
            tracked = handle.model(**inputs)
        if label not in ("no bank", "mixed methods"):
            assert banked(handle, None, rows), label
        expected = alone(handle, rows, inputs)
        assert apart(found, expected) < 1e-10, label
        assert apart(tracked.logits.detach(), expected) < 1e-5, label  # a norm computes in float32
        assert apart(found, alone(handle, rows[::-1], inputs)) > 1e-3, label


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_half_precision_and_autocast(dtype: torch.dtype) -> None:
    handle, rows = made("bert", dtype), ROWS["shuffled"]
    inputs = inputs_of("bert", rows=len(rows), length=1)
    assert banked(handle, None, rows)
    with handle.using(None, rows), torch.autocast("cpu", enabled=dtype == torch.float32):
        found = output(handle.model, inputs)
        assert found.dtype in (dtype, torch.bfloat16)
    assert apart(found.double(), alone(handle, rows, inputs).double()) < 0.3  # a few roundings of bfloat16


def test_blocks_that_cut_the_batch() -> None:
    handle = made("bert")
    inputs = inputs_of("bert", rows=4)
    for expr, rows in (
        (BatchSplit("l2", "l5", "narrow", sizes=[1, 2, 1]), ["l2", "l5", "l5", "narrow"]),
        (BatchSplit("l2", "l5", sizes=[2, 2]), ["l2", "l2", "l5", "l5"]),
        (
            Stack(BatchSplit("l2", None, "l5", sizes=[1, 2, 1]), "bias"),
            [Stack("l2", "bias"), "bias", "bias", Stack("l5", "bias")],
        ),
    ):
        assert any("Banked" in repr(step) for step in handle.engine.program(expr, None).steps)
        assert apart(under(handle, inputs, expr), alone(handle, rows, inputs)) < 1e-10
    expr = Parallel("l2", "l5", None, "wide")
    assert banked(handle, expr)
    wide = {name: tensor.repeat(4, *(1,) * (tensor.dim() - 1)) for name, tensor in inputs.items()}
    found = under(handle, inputs, expr)
    assert apart(found, alone(handle, [name for name in ("l2", "l5", None, "wide") for _ in range(4)], wide)) < 1e-10


def test_the_same_set_in_another_order_shares_its_banks() -> None:
    handle = made("bert")
    rows: list[Expr] = ["l2", "l5", None, "l2"]
    first = [id(bank) for step in banked(handle, None, rows) for bank in step.banks]
    random.Random(1).shuffle(rows)
    assert [id(bank) for step in banked(handle, None, rows) for bank in step.banks] == first
    handle.model.to(torch.float32)
    inputs = inputs_of("bert", rows=4)
    assert apart(under(handle, inputs, rows=rows), alone(handle, rows, inputs)) < 1e-4


def test_what_trains_is_in_no_bank() -> None:
    handle = made("bert")
    handle.trainable("l2")
    rows: list[Expr] = ["l2", "l5", "l2"]
    assert not banked(handle, None, rows)
    inputs = inputs_of("bert")
    with handle.using(None, rows):
        before = output(handle.model, inputs)
        with torch.no_grad():
            for parameter in handle.engine.adapters["l2"].parameters():
                parameter.add_(0.1)
        assert apart(output(handle.model, inputs), before) > 1e-3


def test_programs_go_by_the_bytes_that_they_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = made("bert")

    def bytes_of(rows: list[Expr]) -> int:
        tensors = [t for step in banked(handle, None, rows) for bank in step.banks for t in bank.tensors.values()]
        return sum(t.numel() * t.element_size() for t in tensors)

    one = bytes_of(["l2", "l5"])
    assert handle.engine._copied() == one > 0
    handle.activate(rows=["l5", "l2"])
    handle.activate("l2")
    assert handle.engine._copied() == one, "the same set has one bank, whatever the order"
    monkeypatch.setattr(engine_module, "KEPT_BYTES", 3 * one)
    for rows in (
        ["l2", None, "l5"],
        ["narrow", "wide"],
        ["bias", "other bias", None],
        ["l2", "l5", None, "l2", "wide"],
    ):
        handle.activate(rows=rows)
        assert handle.engine._copied() <= 3 * one + bytes_of(rows)
    assert len(handle.engine.programs) < 6


def test_ranks_too_far_apart_are_not_padded() -> None:
    handle = adapt(tiny("bert"))
    for name, rank in (("small", 1), ("large", 60), ("tiny", 1), ("least", 1), ("slight", 1), ("thin", 1)):
        handle.add("lora", name, {"r": rank, "target_modules": ["query"]}, head=None)
    handle.trainable([])
    assert not banked(handle, None, ["small", "large", "tiny", "least", "slight", "thin"])


def test_a_copy_of_the_model_banks_its_own() -> None:
    handle, rows = made("bert"), ROWS["shuffled"]
    inputs = inputs_of("bert", rows=len(rows))
    handle.activate(rows=rows)
    expected = output(handle.model, inputs)
    for other in (copy.deepcopy(handle.model), pickle.loads(pickle.dumps(handle.model))):
        assert apart(output(other, inputs), expected) < 1e-12
        assert adapt(other).engine.shelf is not handle.engine.shelf


class Positions(torch.nn.Module):
    """A projection of position embeddings: one row, whatever the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.places = torch.nn.Parameter(torch.randn(1, 5, 8, dtype=torch.float64))
        self.proj = torch.nn.Linear(8, 8, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.proj(self.places)


class Remembering(torch.nn.Linear):
    """A linear module that gives the same tensor again."""

    kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.kept = super().forward(x) if self.kept is None else self.kept
        return self.kept


class Chain(torch.nn.Module):
    """Two modules, one after the other."""

    def __init__(self, first: torch.nn.Module, second: torch.nn.Module):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))  # type: ignore[no-any-return]


def two_loras(model: torch.nn.Module, target: str) -> Adapted:
    handle = adapt(model)
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        handle.add("lora", name, {"r": 2, "target_modules": [target]}, head=None)
        for parameter in handle.trainable(name):
            parameter.data.normal_()
    handle.trainable([])
    return handle


def test_one_row_of_positions_serves_several_adapters() -> None:
    torch.manual_seed(0)
    handle, x = two_loras(Positions(), "proj"), torch.randn(2, 5, 8, dtype=torch.float64)
    parts = []
    for i, name in enumerate("ab"):
        with handle.using(name), torch.no_grad():
            parts.append(handle.model(x[i : i + 1]))
    for choice in ({"rows": ["a", "b"]}, {"expr": BatchSplit("a", "b", sizes=[1, 1])}):
        with handle.using(**choice), torch.no_grad():  # type: ignore[arg-type]
            assert apart(handle.model(x), torch.cat(parts)) < 1e-12


def test_what_others_hold_is_not_written_into() -> None:
    torch.manual_seed(0)
    plain, x = torch.nn.Linear(8, 8), torch.randn(2, 3, 8)
    model = Chain(plain, torch.nn.Linear(8, 8))
    heard: list[Tensor] = []
    plain.register_forward_hook(lambda module, args, out: heard.append(out))
    handle = two_loras(model, "first")
    with torch.no_grad():
        bare = torch.nn.functional.linear(x, plain.weight, plain.bias)
        with handle.using("a"):
            model(x)
    assert apart(heard[0], bare) == 0
    handle = two_loras(Chain(Remembering(8, 8), torch.nn.Identity()), "first")
    with torch.no_grad():
        before = handle.model(x).clone()
        with handle.using("a"):
            once, again = handle.model(x).clone(), handle.model(x).clone()
        assert apart(once, again) == 0 and apart(once, before) > 0.1
        assert apart(handle.model(x), before) == 0


def test_what_was_made_in_inference_mode_can_stand_beside_training() -> None:
    handle = made("bert")
    handle.trainable("narrow")
    with torch.inference_mode():
        handle.activate(Stack("l2", "l5", "narrow"))
        handle.model(**inputs_of("bert"))
    handle.model(**inputs_of("bert")).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in handle.engine.adapters["narrow"].parameters())
