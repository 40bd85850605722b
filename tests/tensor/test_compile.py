"""torch.compile: one graph, right after attach, and no new compilation when adapters of the same shapes are swapped."""

from __future__ import annotations

import threading
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
        peft_adapter(
            base, tmp_path / name, "SEQ_CLS", seed, r=2, lora_alpha=seed + 1, target_modules=["query", "value"]
        )
    handle = adapt(fast)
    for name in "abcd":
        handle.load(tmp_path / name)
    assert apart(logits(fast, inputs), bare) <= 1e-6
    for warm, others in [
        ("a", ["b", "c", "d"]),
        (Stack("a", "b"), [Stack("c", "d")]),
        (Average("a", "b"), [Average("c", "d")]),
    ]:
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


def test_threads_keep_their_own_expression_when_compiled(tmp_path: Path) -> None:
    torch._dynamo.reset()
    base = model_of("bert", torch.float32)
    for seed, name in enumerate("ab"):
        peft_adapter(base, tmp_path / name, "", seed, r=2, target_modules=["query"])
    handle = adapt(base)
    for name in "ab":
        handle.load(tmp_path / name)
    fast, inputs = torch.compile(base, fullgraph=True, backend="eager"), inputs_of("bert")
    expected = {}
    for name in ("a", "b"):
        with handle.using(name):
            expected[name] = logits(base, inputs)
            logits(fast, inputs)
    wrong: list[str] = []

    def work(name: str) -> None:
        for _ in range(20):
            with handle.using(name):
                if apart(logits(fast, inputs), expected[name]) > 1e-6:
                    wrong.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b", "a")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert apart(expected["a"], expected["b"]) > 1e-3


def test_the_first_using_of_a_thread_is_noticed_by_a_graph_compiled_before_it(tmp_path: Path) -> None:
    torch._dynamo.reset()
    base = model_of("bert", torch.float32)
    peft_adapter(base, tmp_path / "a", "", 0, r=2, target_modules=["query"])
    handle = adapt(base)
    handle.load(tmp_path / "a")
    fast, inputs = torch.compile(base, fullgraph=True, backend="eager"), inputs_of("bert")
    differences: list[float] = []

    def work() -> None:
        logits(fast, inputs)
        with handle.using("a"):
            differences.append(apart(logits(fast, inputs), logits(base, inputs)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert differences and differences[0] <= 1e-6
