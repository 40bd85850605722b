"""Fuse: the maths written a second time, training, whose head answers, what is refused."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, BatchSplit, Expr, Fuse, Parallel, Split, Stack
from hubcli.errors import ConfigKeyError, ExpressionError, HubcliError, NotFoundError, UnsupportedError
from hubcli.testing import apart, inputs_of, output, reference, tiny

from .frozen import add_frozen, under
from .fused import lab

pytestmark = pytest.mark.filterwarnings("ignore")


def tree(names: list[str], fusions: list[str], chance: random.Random, depth: int) -> Expr:
    """A random tree over 3 rows, 7 positions."""
    if depth == 0 or chance.random() < 0.2:
        return chance.choice([*names, None])
    kind = chance.choice(["stack", "average", "fuse", "fuse", "fuse"])
    children = [tree(names, fusions, chance, depth - 1) for _ in range(chance.randint(1, 3))]
    if kind == "fuse":
        return Fuse(*children, by=chance.choice(fusions))
    if kind == "average":
        return Average(*children, weights=[chance.uniform(-1, 1) for _ in children])
    return Stack(*children)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5", "vit"])
def test_fusions_of_any_methods_in_any_tree_are_the_reference(family: str) -> None:
    handle = lab(family)
    names, inputs = list(handle.adapters), inputs_of(family)
    fusions = [
        add_frozen(handle, "fusion", "f", {"of": names}, 11),
        add_frozen(handle, "fusion", "g", {"of": names, "query": False, "value_before_softmax": False}, 12),
        add_frozen(handle, "fusion", "h", {"of": names, "variant": "static", "key": False}, 13),
    ]
    chance, bare = random.Random(family), under(handle, inputs)
    for _ in range(8):
        expr = tree(names, fusions, chance, 3)
        wanted = reference(handle, expr, inputs)
        assert apart(under(handle, inputs, expr), wanted) <= 1e-10, expr
    pair: Expr = Fuse(Stack("a", "l"), None, "c", by="f")
    wanted = reference(handle, pair, inputs)
    assert apart(wanted, bare) > 1e-3 and apart(wanted, reference(handle, Stack("a", "l"), inputs)) > 1e-3
    rows = under(handle, inputs, rows=[pair, "a", pair])
    assert apart(rows[::2], wanted[::2]) <= 1e-10
    assert apart(rows[1], reference(handle, "a", inputs)[1]) <= 1e-10
    wide = under(handle, inputs, Parallel(pair, "b"))
    assert apart(wide[:3], wanted) <= 1e-10 and apart(wide[3:], reference(handle, "b", inputs)) <= 1e-10


def test_cuts_inside_and_around_a_fuse_are_the_reference() -> None:
    handle, inputs = lab("bert", "abls"), inputs_of("bert")
    add_frozen(handle, "fusion", "f", {"of": ["a", "b", "l", "s"]}, 11)
    for expr in (
        Split(Fuse("a", "l", by="f"), "b", sizes=[3, 4]),
        BatchSplit(None, Fuse("a", "l", by="f"), sizes=[1, 2]),
        Fuse(BatchSplit("a", "s", sizes=[2, 1]), "b", by="f"),
        Fuse(Split("a", "l", sizes=[2, 5]), Fuse("a", "b", by="f"), by="f"),
    ):
        assert apart(under(handle, inputs, expr), reference(handle, expr, inputs)) <= 1e-10, expr
    with pytest.raises(UnsupportedError, match="Parallel must stand at the root"):
        handle.activate(Fuse(Parallel("a", "b"), by="f"))


def test_a_fresh_fusion_is_close_to_the_average_of_its_children() -> None:
    handle, inputs = lab("bert", "abl"), inputs_of("bert")
    handle.add("fusion", "f", {"of": ["a", "b", "l"]}, head=None)
    assert {str(site) for site in handle.engine.adapters["f"].sites} == {
        str(site) for name in "abl" for site in handle.engine.adapters[name].sites
    }
    mean, found = under(handle, inputs, Average("a", "b", "l")), under(handle, inputs, Fuse("a", "b", "l"))
    assert 0 < apart(found, mean) < 0.1 * apart(mean, under(handle, inputs))


def test_training_moves_the_fusion_alone_and_learns() -> None:
    handle, inputs = lab("bert", "abl"), inputs_of("bert")
    model: Any = handle.model
    handle.add("fusion", "f", {"of": ["a", "b", "l"]})
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    parameters = handle.trainable("f")
    handle.activate(Fuse("a", "b", "l"))
    model.train()
    optimiser = torch.optim.AdamW(parameters, lr=0.01)
    losses, labels = [], torch.tensor([0, 1, 1])
    for _ in range(12):
        loss = model(**inputs, labels=labels).loss
        losses.append(loss.item())
        optimiser.zero_grad()
        (loss + handle.penalty()).backward()
        optimiser.step()
    model.eval()
    assert losses[-1] < 0.7 * losses[0]
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved and all(name.startswith("hubcli_residents.f.") for name in moved)
    assert not any(p.grad is not None for p in model.parameters() if not any(p is mine for mine in parameters))
    assert any("classifier" in name for name in moved)
    matrices = [t["value_weight"] for t in handle.engine.adapters["f"].sites.values()]
    pulled = sum(0.01 * ((m - torch.eye(len(m))) ** 2).sum() for m in matrices)
    assert apart(handle.penalty(), torch.as_tensor(pulled)) < 1e-9 and handle.penalty() > 0
    handle.trainable([])
    assert handle.penalty() == 0


def test_a_fusion_whose_children_act_elsewhere_is_refused() -> None:
    handle = lab("bert", "abc")
    add_frozen(handle, "fusion", "f", {"of": ["a", "b"]}, 4)
    handle.activate(Fuse("b", "a", None, by="f"))
    with pytest.raises(
        UnsupportedError, match=r"'c' adds something at the output of .*where the fusion 'f' has no weights"
    ):
        handle.activate(Fuse("a", "c", by="f"))


REFUSED: list[tuple[Expr, type[HubcliError], str]] = [
    (Fuse("b", "a"), NotFoundError, "no fusion of just b, a is loaded .loaded: 'f' of a, b"),
    (Fuse("a", "b", by="nobody"), NotFoundError, "nobody"),
    (Fuse("a", "b", by="c"), ExpressionError, "by='c': it is an adapter"),
    ("f", ExpressionError, "'f' is a fusion, not an adapter"),
    (Stack("a", Fuse("f", by="f")), ExpressionError, "'f' is a fusion, not an adapter"),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_expressions_that_mean_no_fusion(case: int) -> None:
    handle = lab("bert", "abc")
    add_frozen(handle, "fusion", "f", {"of": ["a", "b"]}, 4)
    expr, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        handle.activate(expr)
    assert handle.active is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"query_before_ln": True}, "query_before_ln: True: the query would be"),
        ({"residual_before": True}, "residual_before: True"),
        ({"temperature": True}, "temperature: True"),
        ({"dropout_prob": 1}, "dropout_prob: expected null or a number"),
        ({"value": "yes"}, "value: expected true or false"),
        ({"query": False, "key": False, "value": False}, "nothing to train"),
        ({"of": []}, "of: expected the children"),
        ({"heads": 3}, "heads: 3 is not supported"),
        ({"variant": "average"}, "variant: expected one of dynamic, static"),
    ],
)
def test_config_keys_that_cannot_be_honoured_are_named(config: dict[str, Any], message: str) -> None:
    handle = lab("bert", "ab")
    with pytest.raises(ConfigKeyError, match=message):
        handle.add("fusion", "f", {"of": ["a", "b"], **config})
    with pytest.raises(NotFoundError, match="no adapter 'nobody' is loaded"):
        handle.add("fusion", "f", {"of": ["a", "nobody"]})
    assert list(handle.adapters) == ["a", "b"]


def test_whose_head_answers() -> None:
    handle, inputs = lab("bert", "abn", heads="ab"), inputs_of("bert")
    add_frozen(handle, "fusion", "bare", {"of": ["a", "b"]}, 4)
    add_frozen(handle, "fusion", "own", {"of": ["a", "b"]}, 5, "auto")

    def head_of(expr: Expr) -> torch.nn.Module:
        with handle.using(expr):
            return handle.engine.routing.program(False).steps[_head(handle)].module

    heads = {name: handle.engine.adapters[name].heads["classifier"] for name in ("a", "b", "own")}
    assert head_of(Fuse("a", "b", by="own")) is heads["own"]
    assert head_of(Fuse("a", "n", by="own")) is heads["own"]
    handle.add("fusion", "wide", {"of": ["a", "b", "n"]}, head=None)
    assert head_of(Fuse("a", "n", by="wide")) is heads["a"]
    with pytest.raises(UnsupportedError, match="a and b have different heads"):
        handle.activate(Fuse("a", "b", by="bare"))
    for name in "ab":
        handle.head = name
        assert head_of(Fuse("a", Stack("b", "n"), by="wide")) is heads[name]
        assert head_of(Fuse("a", "b", by="own")) is heads[name]
    handle.head = None
    with torch.no_grad():
        for mine, theirs in zip(heads["a"].parameters(), heads["b"].parameters(), strict=True):
            theirs.copy_(mine)
    assert head_of(Fuse("a", "b", by="bare")) is heads["a"]
    handle.add("fusion", "new", {"of": ["a", "b"]})
    assert torch.equal(handle.engine.adapters["new"].heads["classifier"].weight, heads["a"].weight)
    assert under(handle, inputs, Fuse("a", "b", by="new")).shape == (3, 2)


def _head(handle: Adapted) -> int:
    return next(live.i for live in handle.engine.live if live.site.path == "classifier")


@pytest.mark.slow
def test_another_fusion_of_the_same_shapes_compiles_nothing_new() -> None:
    torch._dynamo.reset()
    handle, inputs = lab("bert", "anl", torch.float32), inputs_of("bert")
    for seed, name in enumerate("fg"):
        add_frozen(handle, "fusion", name, {"of": ["a", "n", "l"]}, seed)
    graphs: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    fast, outs = torch.compile(handle.model, fullgraph=True, backend=backend), []
    counts = []
    for expr in [Fuse("a", "n", "l", by="f"), Fuse("a", "n", "l", by="g"), Fuse("n", "a", "l", by="f")]:
        handle.activate(expr)
        outs.append(output(fast, inputs))
        assert apart(outs[-1], output(handle.model, inputs)) <= 1e-5
        counts.append(len(graphs))
    assert counts == [counts[0]] * 3
    assert apart(outs[0], outs[1]) > 1e-3


def test_checkpointing_gives_the_same_gradients() -> None:
    grads = []
    for checkpointing in (False, True):
        handle = lab("bert", "abl")
        add_frozen(handle, "fusion", "f", {"of": ["a", "b", "l"], "dropout_prob": 0.0}, 4)
        model: Any = handle.model
        parameters = handle.trainable("f")
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        handle.activate(Fuse("a", "b", "l"))
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model(**inputs_of("bert"), labels=torch.tensor([0, 1, 1])).loss.backward()
        grads.append([p.grad for p in parameters])
    assert all(apart(one, two) <= 1e-12 for one, two in zip(*grads, strict=True))
    assert max(one.abs().max() for one in grads[0]) > 1e-4


def test_a_fusion_at_two_ports_of_one_module_trains_at_both() -> None:
    handle = adapt(tiny("bert"))
    handle.add("bottleneck", "x", {"reduction_factor": 4}, head=None)
    handle.add("bitfit", "y", head=None)
    handle.add("fusion", "both", {"of": ["x", "y"]}, head=None)
    sites = handle.engine.adapters["both"].sites
    assert len({site.path for site in sites}) < len(sites)
    trained = {id(parameter) for parameter in handle.trainable("both")}
    assert all(id(tensor) in trained for tensors in sites.values() for tensor in tensors.values())
