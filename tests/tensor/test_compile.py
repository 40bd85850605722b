"""torch.compile: one graph, right after attach, and no new compilation when adapters of the same shapes are swapped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hubcli.adapted import adapt
from hubcli.composition import Average, Stack

from .models import apart, inputs_of, logits, model_of, peft_adapter

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


def test_swapping_compiles_nothing_new(tmp_path: Path) -> None:
    torch._dynamo.reset()
    base = model_of("bert", torch.float32)
    graphs: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    fast = torch.compile(base, fullgraph=True, backend=backend)
    inputs = inputs_of("bert")
    bare = logits(fast, inputs)
    for seed, name in enumerate("abcd"):
        peft_adapter(base, tmp_path / name, "SEQ_CLS", seed, r=2, lora_alpha=seed + 1, target_modules=["query", "value"])
    handle = adapt(fast)
    for name in "abcd":
        handle.load(tmp_path / name)
    assert apart(logits(fast, inputs), bare) <= 1e-6
    for warm, others in [("a", ["b", "c", "d"]), (Stack("a", "b"), [Stack("c", "d")]), (Average("a", "b"), [Average("c", "d")])]:
        handle.activate(warm)
        logits(fast, inputs)
        count = len(graphs)
        for expr in others:
            handle.activate(expr)
            assert apart(logits(fast, inputs), logits(base, inputs)) <= 1e-6
            assert apart(logits(fast, inputs), bare) > 1e-3
        assert len(graphs) == count, warm
    with handle.using("a"):
        expected = logits(base, inputs)
        assert apart(logits(fast, inputs), expected) <= 1e-6
    handle.activate(rows=["a", None, "b"])
    assert apart(logits(fast, inputs), logits(base, inputs)) <= 1e-6
    handle.detach()
    assert torch.equal(logits(base, inputs), bare)
    assert apart(logits(fast, inputs), bare) <= 1e-6
