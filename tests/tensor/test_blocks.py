"""Compositions against folded weights and separate runs."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hubcli import testing as suite
from hubcli.adapted import adapt
from hubcli.composition import Average, BatchSplit, Expr, Fuse, Parallel, Split, Stack
from hubcli.errors import ActiveError, ExpressionError, NotFoundError, UnsupportedError

from .conftest import Lab
from .models import apart, inputs_of, logits, model_of, peft_adapter

pytestmark = pytest.mark.filterwarnings("ignore")
Build = Callable[..., Lab]

SUMS: list[tuple[Expr, dict[str, float]]] = [
    (None, {}),
    ("a", {"a": 1}),
    (Stack("a", "b"), {"a": 1, "b": 1}),
    (Stack("a", None, "b", "c"), {"a": 1, "b": 1, "c": 1}),
    (Stack("a", "a"), {"a": 2}),
    (Average("a", "b"), {"a": 0.5, "b": 0.5}),
    (Average("a", "b", weights=[2, -0.5]), {"a": 2, "b": -0.5}),
    (Average("a", None, "b"), {"a": 1 / 3, "b": 1 / 3}),
    (Average("a", weights=[0.25]), {"a": 0.25}),
    (Stack("a", Average("b", "c", weights=[0.7, 0.3])), {"a": 1, "b": 0.7, "c": 0.3}),
    (Average(Stack("a", "b"), "c", weights=[0.6, 0.4]), {"a": 0.6, "b": 0.6, "c": 0.4}),
]


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5", "albert", "vit"])
def test_sums_are_folded_weights(family: str, lab: Build) -> None:
    made = lab(family)
    for expr, weights in SUMS:
        assert apart(made.under(expr), made.folded(**weights)) <= 1e-10, expr


def test_random_trees_are_folded_weights(lab: Build) -> None:
    made, rng = lab("bert"), random.Random(3)

    def tree(depth: int) -> tuple[Expr, dict[str, float]]:
        if depth == 0 or rng.random() < 0.3:
            name = rng.choice(["a", "b", "c", None])
            return name, {name: 1.0} if name else {}
        parts = [tree(depth - 1) for _ in range(rng.randint(1, 3))]
        shares = [rng.uniform(-1, 1) for _ in parts]
        block = rng.choice([Stack, Average])
        weights: dict[str, float] = {}
        for (_, inner), share in zip(parts, shares, strict=True):
            for name, weight in inner.items():
                weights[name] = weights.get(name, 0) + weight * (1 if block is Stack else share)
        children = [expr for expr, _ in parts]
        return Stack(*children) if block is Stack else Average(*children, weights=shares), weights

    for _ in range(60):
        expr, weights = tree(3)
        assert apart(made.under(expr), made.folded(**weights)) <= 1e-10, expr


ROWS: list[list[Expr]] = [
    ["a", "b", "c"],
    ["a", None, "a"],
    [None, None, None],
    ["b", "a", "b"],
    [Stack("a", "b"), None, Average("b", "c", weights=[0.9, 0.2])],
]


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5", "vit", "distilbert"])
def test_each_row_is_its_own_run(family: str, lab: Build) -> None:
    made = lab(family)
    for rows in ROWS:
        expected = torch.stack([made.under(expr)[i] for i, expr in enumerate(rows)])
        assert apart(made.under(rows=rows), expected) <= 1e-10, rows
    expected = torch.stack([made.under("a")[0], made.under(Stack("a", "c"))[1], made.under("b")[2]])
    split = BatchSplit(Stack("a", BatchSplit(None, "c", sizes=[1, 1])), "b", sizes=[2, 1])
    assert apart(made.under(split), expected) <= 1e-10
    assert apart(made.under("a")[1], made.under("b")[1]) > 1e-3


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_parallel_is_runs_side_by_side(family: str, lab: Build) -> None:
    made = lab(family)
    expected = torch.cat([made.under("a"), made.under(None), made.under(Stack("b", "c"))])
    assert apart(made.under(Parallel("a", None, Stack("b", "c"))), expected) <= 1e-10
    expected = torch.cat([made.under(Stack("a", "b")), made.under(Stack("a", "c"))])
    assert apart(made.under(Stack("a", Parallel("b", "c"))), expected) <= 1e-10


def test_split_cuts_the_sequence(lab: Build) -> None:
    """Against Linear layers that use other weights from position 3 on."""
    made = lab("gpt2")
    found = made.under(Split("a", Stack("b", "c"), sizes=[3, 4]))
    hooks = []
    for path in made.deltas["a"]:
        changes = [made.deltas["a"][path], made.deltas["b"][path] + made.deltas["c"][path]]

        def add(
            module: torch.nn.Module, args: tuple[torch.Tensor], out: torch.Tensor, changes: list[torch.Tensor] = changes
        ):
            x = args[0]
            return out + torch.cat([x[:, :3] @ changes[0], x[:, 3:] @ changes[1]], 1)

        hooks.append(made.base.get_submodule(path).register_forward_hook(add))
    assert apart(found, logits(made.base, made.inputs)) <= 1e-10
    for hook in hooks:
        hook.remove()


def test_generate_with_rows_is_each_row_alone(lab: Build) -> None:
    made = lab("llama")
    ids = made.inputs["input_ids"]
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": 59}
    alone = [made.handle.generate(ids[i : i + 1], expr=e, **options) for i, e in enumerate(["a", None, "b"])]
    together = made.handle.generate(ids, rows=["a", None, "b"], **options)
    for i, row in enumerate(alone):
        assert torch.equal(together[i, : row.shape[1]], row[0])
    wide = made.handle.generate(ids[:1], expr=Parallel("a", None), **options)
    assert torch.equal(wide[0, : alone[0].shape[1]], alone[0][0])


REFUSED: list[tuple[str, Expr, list[Expr] | None, type[Exception], str]] = [
    ("bert", Fuse("a", "b"), None, NotFoundError, "no fusion"),
    ("bert", Average(Parallel("a", "b"), "c"), None, UnsupportedError, "Parallel must stand at the root"),
    ("bert", Stack(Parallel("a", "b"), Parallel("a", "b")), None, UnsupportedError, "two Parallel"),
    ("bert", None, [Parallel("a", "b"), "a", "a"], UnsupportedError, "a row has one answer"),
    ("t5", Split("a", "b", sizes=[3, 4]), None, UnsupportedError, "encoder-decoder"),
    ("bert", "a", ["a"], ExpressionError, "not both"),
    ("bert", None, [], ExpressionError, "found none"),
    ("bert", "nobody", None, NotFoundError, "nobody"),
    ("bert", 3, None, ExpressionError, "expected a block"),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_refused_before_anything_changes(case: int, lab: Build) -> None:
    family, expr, rows, error, message = REFUSED[case]
    made = lab(family)
    made.handle.activate("a")
    with pytest.raises(error, match=message):
        made.handle.activate(expr, rows=rows)
    assert made.handle.active == "a"


@pytest.mark.parametrize(
    ("expr", "rows", "message"),
    [
        (BatchSplit("a", "b", sizes=[1, 1]), None, r"add up to 2, found 3 rows"),
        (Split("a", "b", sizes=[3, 3]), None, r"add up to 6, found 7 positions"),
        (None, ["a", "b"], r"names 2 rows, found a batch of 3"),
    ],
)
def test_sizes_that_do_not_fit_name_both(expr: Expr, rows: list[Expr] | None, message: str, lab: Build) -> None:
    made = lab("bert")
    before = made.under()
    made.handle.activate(expr, rows=rows)
    with pytest.raises(ExpressionError, match=message):
        logits(made.base, made.inputs)
    made.handle.activate(None)
    assert torch.equal(logits(made.base, made.inputs), before)


def test_generate_refuses_what_it_can_not_do(lab: Build) -> None:
    made = lab("gpt2")
    with pytest.raises(UnsupportedError, match="Split"):
        made.handle.generate(**made.inputs, expr=Split("a", "b", sizes=[3, 4]), max_new_tokens=2)
    with made.handle.using(Parallel("a", "b")), pytest.raises(UnsupportedError, match="handle"):
        made.base.generate(**made.inputs, max_new_tokens=2)
    with made.handle.using("a"), pytest.raises(ActiveError):
        made.handle.detach("a")


@pytest.mark.parametrize("expr", [expr for expr, _ in SUMS], ids=str)
def test_what_trains_is_never_merged_and_still_right(expr: Expr, lab: Build) -> None:
    made = lab("bert")
    weights = next(weights for known, weights in SUMS if known == expr)
    expected = made.folded(**weights)
    made.handle.trainable(["a", "c"])
    assert apart(made.under(expr), expected) <= 1e-10


def test_dora_is_folded_in_an_average_and_stacked_as_in_peft(tmp_path: Path) -> None:
    base, inputs = model_of("bert"), inputs_of("bert")
    options = {"target_modules": ["query", "dense"], "use_dora": True, "exclude_modules": ["pooler.dense"]}
    tuned = [peft_adapter(base, tmp_path / name, "", seed, r=2 + seed, **options) for seed, name in enumerate("ab")]
    own = dict(base.named_parameters())
    changed = dict(own)
    for weight, model in zip((0.7, -0.4), tuned, strict=True):
        folded = dict(copy.deepcopy(model).merge_and_unload().named_parameters())
        changed = {path: tensor + weight * (folded[path] - own[path]) for path, tensor in changed.items()}
    with torch.no_grad():
        expected = torch.func.functional_call(base, changed, (), inputs).logits
    both = tuned[0]
    both.load_adapter(tmp_path / "b", "b", autocast_adapter_dtype=False)
    both.base_model.set_adapter(["default", "b"])
    stacked = logits(both.eval(), inputs)
    handle = adapt(base)
    for name in "ab":
        handle.load(tmp_path / name)
    with handle.using(Average("a", "b", weights=[0.7, -0.4])):
        assert apart(logits(base, inputs), expected) <= 1e-10
    for trained in ([], ["b"]):
        handle.trainable(trained)
        with handle.using(Stack("a", "b")):
            assert apart(logits(base, inputs), stacked) <= 1e-10


def test_parallel_knows_the_batch_from_an_input_that_is_longer() -> None:
    model, inputs = suite.tiny("gpt2"), suite.inputs_of("gpt2", rows=2)
    handle = adapt(model)
    handle.add("lora", "x", {"r": 2})
    handle.activate(Parallel("x", None))
    longer = torch.arange(inputs["input_ids"].shape[1])
    with torch.no_grad():
        found = model(**inputs, position_ids=longer.unsqueeze(0), cache_position=longer).logits
    assert found.shape[0] == 4
