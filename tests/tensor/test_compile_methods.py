"""torch.compile for every method in every block: no graph break, the eager answer, no new graph for a swap of the same shapes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, BatchSplit, Fuse, Parallel, Split, Stack

from .methods import METHODS, REFUSED, noisy
from .models import apart, inputs_of, logits, model_of

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
# block -> (a choice, another of the same shapes)
SWAPS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "alone": ({"expr": "a"}, {"expr": "b"}),
    "stack": ({"expr": Stack("a", "b")}, {"expr": Stack("b", "c")}),
    "average": ({"expr": Average("a", "b", None)}, {"expr": Average("c", "a", None)}),
    "split": ({"expr": Split("a", "b", sizes=[3, 4])}, {"expr": Split("c", "a", sizes=[3, 4])}),
    "batchsplit": ({"expr": BatchSplit("a", None, sizes=[2, 1])}, {"expr": BatchSplit("b", None, sizes=[2, 1])}),
    "parallel": ({"expr": Parallel("a", "b")}, {"expr": Parallel("b", "c")}),
    "rows": ({"rows": ["a", None, "b"]}, {"rows": ["c", None, "a"]}),
    "fuse": ({"expr": Fuse("a", "b", by="mix")}, {"expr": Fuse("b", "c", by="mix")}),
}
CASES = [(method, block) for method in METHODS for block in SWAPS if (method, block) not in REFUSED]
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


class Counted:
    """A backend that runs graphs as they are and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: object) -> Any:
        self.graphs += 1
        return graph.forward


@pytest.fixture(autouse=True)
def clean() -> None:
    torch._dynamo.reset()


def made(method: str, block: str = "") -> Adapted:
    handle = noisy(method, "abc", model_of("bert", torch.float32, **STILL))
    if block == "fuse":
        torch.manual_seed(5)
        handle.add("fusion", "mix", {"of": ["a", "b"]})
        handle.trainable([])
    return handle


@pytest.mark.parametrize(("method", "block"), CASES)
def test_no_graph_break_the_eager_answer_and_swaps_for_nothing(method: str, block: str) -> None:
    handle, counted, inputs = made(method, block), Counted(), inputs_of("bert")
    fast = torch.compile(handle.model, fullgraph=True, backend=counted)
    bare = logits(handle.model, inputs)
    seen = []
    for choice in SWAPS[block]:
        with handle.using(**choice):
            expected = logits(handle.model, inputs)
            found = logits(fast, inputs)
            assert apart(found, expected) <= 1e-5, choice
            assert apart(found[:3], bare) > 1e-3, choice
        seen.append(counted.graphs)
    assert seen[0] == seen[1] >= 1, "a swap of the same shapes was compiled"


@pytest.mark.parametrize("method", METHODS)
def test_a_model_compiled_before_it_is_adapted_notices(method: str) -> None:
    base, inputs = model_of("bert", torch.float32, **STILL), inputs_of("bert")
    fast = torch.compile(base, fullgraph=True, backend=Counted())
    bare = logits(fast, inputs)
    handle = noisy(method, "a", base)
    assert adapt(fast) is handle
    handle.activate("a")
    assert apart(logits(fast, inputs), logits(base, inputs)) <= 1e-5 < apart(logits(fast, inputs), bare)
    handle.detach()
    assert apart(logits(fast, inputs), bare) <= 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_batches_and_lengths_of_any_size(method: str) -> None:
    handle, counted = made(method), Counted()
    fast = torch.compile(handle.model, fullgraph=True, backend=counted, dynamic=True)
    handle.activate(Stack("a", "b"))
    for rows, length in [(3, 7), (4, 9), (2, 5), (5, 11), (6, 6)]:
        inputs = inputs_of("bert", rows, length)
        assert apart(logits(fast, inputs), logits(handle.model, inputs)) <= 1e-5
    assert counted.graphs <= 2


@pytest.mark.parametrize("method", METHODS)
def test_compiled_training_is_eager_training(method: str) -> None:
    def trained(compiled: bool) -> list[torch.Tensor]:
        handle = made(method)
        parameters = handle.trainable("a")
        model = handle.model.train()
        model = torch.compile(model, fullgraph=True, backend="aot_eager") if compiled else model
        optimizer = torch.optim.SGD(parameters, lr=0.05)
        handle.activate(Stack("b", "a"))
        for _ in range(3):
            model(**inputs_of("bert")).logits.square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return [parameter.detach() for parameter in parameters]

    start = [parameter.detach().clone() for parameter in made(method).trainable("a")]
    eager, fast = trained(False), trained(True)
    assert max(apart(one, other) for one, other in zip(eager, fast, strict=True)) <= 1e-4
    assert max(apart(one, other) for one, other in zip(eager, start, strict=True)) > 1e-3
