"""`generate` under compositions that cut the batch, with beams and several sequences a row: each row as if it were alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hubcli.composition import BatchSplit, Expr, Parallel, Stack

from .conftest import Lab
from .models import apart, logits

pytestmark = pytest.mark.filterwarnings("ignore")
Build = Callable[..., Lab]
SHORT = {"max_new_tokens": 5, "min_new_tokens": 5, "pad_token_id": 0}
BEAMS: dict[str, dict[str, Any]] = {
    "beams": {"num_beams": 3},
    "several of the beams": {"num_beams": 3, "num_return_sequences": 2},
    "many of one row": {"num_beams": 4, "num_return_sequences": 4, "length_penalty": 0.3},
}
# name -> (what generate is given, what each row of the answer is alone: expression and row of the batch)
CUTS: dict[str, tuple[dict[str, Any], list[tuple[Expr, int]]]] = {
    "rows": ({"rows": ["a", None, "b"]}, [("a", 0), (None, 1), ("b", 2)]),
    "rows out of order": ({"rows": ["b", Stack("a", "c"), "b"]}, [("b", 0), (Stack("a", "c"), 1), ("b", 2)]),
    "batch in a stack": (
        {"expr": Stack("c", BatchSplit("a", None, sizes=[1, 2]))},
        [(Stack("c", "a"), 0), ("c", 1), ("c", 2)],
    ),
    "parallel": ({"expr": Parallel("a", None)}, [*(("a", i) for i in range(3)), *((None, i) for i in range(3))]),
    "batch in parallel": (
        {"expr": Parallel(BatchSplit("a", "b", sizes=[1, 2]), "c")},
        [("a", 0), ("b", 1), ("b", 2), ("c", 0), ("c", 1), ("c", 2)],
    ),
}


def given(made: Lab) -> dict[str, Tensor]:
    return {key: value for key, value in made.inputs.items() if not key.startswith("decoder")}


@pytest.mark.parametrize("beams", BEAMS)
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_each_row_generates_as_if_alone(family: str, cut: str, beams: str, lab: Build) -> None:
    made = lab(family)
    options, alone = CUTS[cut]
    inputs, options = given(made), {**options, **SHORT, **BEAMS[beams]}
    expected = []
    for expr, row in alone:
        with made.handle.using(expr):
            one = {key: value[row : row + 1] for key, value in inputs.items()}
            expected.append(made.base.generate(**one, **SHORT, **BEAMS[beams]))  # type: ignore[operator]
    found = made.handle.generate(**inputs, **options)
    assert torch.equal(found, torch.cat(expected))
    assert made.handle.active is None and torch.equal(made.handle.generate(**inputs, **options), found)


def test_the_rows_of_the_test_above_differ_by_adapter(lab: Build) -> None:
    made = lab("gpt2")
    beams = {**SHORT, **BEAMS["beams"]}
    outs = [made.handle.generate(**given(made), expr=expr, **beams) for expr in (None, "a", "b", Stack("a", "c"))]
    assert all(not torch.equal(one, other) for i, one in enumerate(outs) for other in outs[:i])


def test_a_forward_in_another_thread_is_widened_while_one_generates(lab: Build) -> None:
    made = lab("gpt2")
    expected = made.under(Parallel("a", "b"))
    found: list[Tensor] = []

    def other() -> None:
        found.append(made.under(Parallel("a", "b")))

    thread = threading.Thread(target=other)

    def meanwhile(*_: Any) -> None:
        if thread.ident is None:
            thread.start()
            thread.join()

    hook = made.base.transformer.h[0].register_forward_hook(meanwhile)
    made.handle.generate(**given(made), expr=Parallel("a", "b"), max_new_tokens=1, pad_token_id=0)
    hook.remove()
    assert apart(found[0], expected) == 0


def test_an_error_while_it_generates_leaves_no_routing(lab: Build) -> None:
    made = lab("gpt2")
    expected = made.under()

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    hook = made.base.transformer.h[1].register_forward_hook(fail)
    with pytest.raises(ZeroDivisionError):
        made.handle.generate(**given(made), rows=["a", "b", None], num_beams=2, max_new_tokens=2)
    hook.remove()
    made.handle.activate("a")
    made.handle.activate(None)
    assert made.handle.active is None and torch.equal(logits(made.base, made.inputs), expected)
