"""Replaced modules under compositions, against each adapter's own peft model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, BatchSplit, Expr, Parallel, Split, Stack
from hubcli.errors import BaseMismatchError, UnsupportedError, WeightsError

from .models import apart, inputs_of, logits, model_of, peft_adapter

pytestmark = pytest.mark.filterwarnings("ignore")
OPTIONS: dict[str, Any] = {"r": 2, "target_modules": ["query"]}


@pytest.fixture
def heads(tmp_path: Path) -> tuple[Any, Adapted, dict[str, PeftModel]]:
    """two, other: 2 labels; five: 5 labels; bare: no head."""
    base = model_of("bert")
    peers: dict[str, PeftModel] = {}
    for seed, (name, width) in enumerate({"two": 2, "other": 2, "five": 5}.items()):
        twin = model_of("bert")
        twin.load_state_dict(base.state_dict())
        twin.classifier, twin.num_labels = torch.nn.Linear(16, width).double(), width
        peers[name] = peft_adapter(twin, tmp_path / name, "SEQ_CLS", seed + 1, **OPTIONS)
    peers["bare"] = peft_adapter(base, tmp_path / "bare", "", 9, **OPTIONS)
    handle = adapt(base)
    for name in peers:
        handle.load(tmp_path / name)
    return base, handle, peers


def of(peers: dict[str, PeftModel], name: str) -> torch.Tensor:
    return logits(peers[name], inputs_of("bert"))


def test_one_head_each(heads: Any) -> None:
    base, handle, peers = heads
    own = logits(base, inputs_of("bert"))
    for name in peers:
        with handle.using(name):
            assert apart(logits(base, inputs_of("bert")), of(peers, name)) <= 1e-10
    assert torch.equal(logits(base, inputs_of("bert")), own)
    assert handle.labels_of("five") == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3", "LABEL_4")
    assert any("no labels are known" in note for note in handle.adapters["five"].notes)


def test_stack_takes_the_last_child_that_has_one(heads: Any) -> None:
    base, handle, peers = heads
    pooled = torch.zeros(0)

    def keep(module: Any, args: Any, out: torch.Tensor) -> None:
        nonlocal pooled
        pooled = args[0]

    for expr, owner in [(Stack("two", "five"), "five"), (Stack("five", "two"), "two"), (Stack("five", "bare"), "five")]:
        hook = base.dropout.register_forward_hook(lambda m, a, o: keep(m, (o,), o))
        with handle.using(expr):
            found = logits(base, inputs_of("bert"))
        hook.remove()
        classifier = peers[owner].base_model.model.classifier.modules_to_save["default"]
        assert apart(found, classifier(pooled)) <= 1e-10, expr


def test_average_is_of_logits(heads: Any) -> None:
    base, handle, _ = heads
    two, other = (handle.engine.adapters[n].heads["classifier"] for n in ("two", "other"))
    pooled: list[torch.Tensor] = []
    hook = base.dropout.register_forward_hook(lambda m, a, o: pooled.append(o))
    with handle.using(Average("two", "other", "bare", weights=[0.6, 0.2, 0.5])):
        found = logits(base, inputs_of("bert"))
    hook.remove()
    assert apart(found, 0.75 * two(pooled[0]) + 0.25 * other(pooled[0])) <= 1e-10
    with pytest.raises(UnsupportedError, match="different labels"):
        handle.activate(Average("two", "five"))
    with pytest.raises(UnsupportedError, match="add up to 0"):
        handle.activate(Average("two", "other", weights=[1, -1]))


def test_rows_batches_and_children_have_their_own(heads: Any) -> None:
    base, handle, peers = heads
    own, two, five = logits(base, inputs_of("bert")), of(peers, "two"), of(peers, "five")
    for expr, rows in [(None, ["five", "two", None]), (BatchSplit("five", "two", None, sizes=[1, 1, 1]), None)]:
        with handle.using(expr, rows):
            found = logits(base, inputs_of("bert"))
        assert found.shape == (3, 5)
        assert apart(found[0], five[0]) <= 1e-10
        assert apart(found[1, :2], two[1]) <= 1e-10 and torch.isneginf(found[1, 2:]).all()
        assert apart(found[2, :2], own[2]) <= 1e-10
    out = handle(**inputs_of("bert"), expr=Parallel("two", "five"))
    assert [part.shape for part in out.logits] == [(3, 2), (3, 5)]
    assert apart(out.logits[0], two) <= 1e-10 and apart(out.logits[1], five) <= 1e-10


def test_a_pooled_head_under_split_is_the_first_positions(heads: Any) -> None:
    base, handle, _ = heads
    expr: Expr = Split("five", "two", sizes=[3, 4])
    with handle.using(expr):
        assert logits(base, inputs_of("bert")).shape == (3, 5)


def test_two_adapters_may_replace_different_modules(tmp_path: Path) -> None:
    base = model_of("bert")
    both = peft_adapter(base, tmp_path / "both", "", 1, **OPTIONS, modules_to_save=["pooler", "classifier"])
    peft_adapter(base, tmp_path / "head", "SEQ_CLS", 2, **OPTIONS)
    handle = adapt(base)
    handle.load(tmp_path / "both")
    handle.load(tmp_path / "head")
    with handle.using("both"):
        assert apart(logits(base, inputs_of("bert")), logits(both, inputs_of("bert"))) <= 1e-10
    with pytest.raises(UnsupportedError, match="several modules"):
        handle.activate(Average("both", "head"))


def test_a_delta_inside_a_replaced_module_is_refused(tmp_path: Path) -> None:
    base = model_of("roberta")
    peft_adapter(base, tmp_path / "head", "SEQ_CLS", 1, r=2, target_modules=["query"])
    peft_adapter(base, tmp_path / "inside", "", 2, r=2, target_modules=["classifier.dense"])
    handle = adapt(base)
    handle.load(tmp_path / "head")
    handle.load(tmp_path / "inside")
    with pytest.raises(UnsupportedError, match=r"classifier\.dense is adapted inside classifier"):
        handle.activate(Stack("head", "inside"))


def test_a_head_that_does_not_fit(tmp_path: Path) -> None:
    base = model_of("bert")
    peft_adapter(base, tmp_path / "a", "SEQ_CLS", 1, **OPTIONS)
    handle = adapt(base.bert)
    with pytest.raises(BaseMismatchError, match="replaces classifier"):
        handle.load(tmp_path / "a")
    wide = model_of("bert", hidden_size=32)
    peft_adapter(wide, tmp_path / "wide", "SEQ_CLS", 1, r=2, target_modules=["classifier.x", "query"])
    with pytest.raises((BaseMismatchError, WeightsError)):
        adapt(base).load(tmp_path / "wide")
