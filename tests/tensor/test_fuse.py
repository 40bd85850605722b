"""Fuse: AdapterHub's goldens, the maths written a second time, training, folders, heads."""

from __future__ import annotations

import copy
import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from hubcli import load_adapter
from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, BatchSplit, Expr, Fuse, Parallel, Split, Stack
from hubcli.errors import (
    ActiveError,
    BaseMismatchError,
    ConfigKeyError,
    ExpressionError,
    HubcliError,
    NotFoundError,
    UnsupportedError,
    UsageError,
    WeightsError,
)
from hubcli.testing import apart, inputs_of, output, reference, tiny

from .frozen import Given, add_frozen, under

pytestmark = pytest.mark.filterwarnings("ignore")
GOLDENS = Path(os.environ.get("HUBCLI_GOLDENS") or Path(__file__).parents[1] / "fixtures" / "adapterhub")
MODELS = {"bert": tf.BertModel, "distilbert": tf.DistilBertModel, "gpt2": tf.GPT2Model}
FUSED = "seq_bn,seq_bn_b"
CHILDREN: dict[str, Given] = {
    "a": ("bottleneck", {"reduction_factor": 4}),
    "b": ("bottleneck", {"reduction_factor": 8}),
    "n": ("bottleneck", {"reduction_factor": 4}),
    "c": ("bottleneck", {"variant": "houlsby", "reduction_factor": 4}),
    "p": ("bottleneck", {"variant": "parallel", "reduction_factor": 4}),
    "l": ("lora", {"r": 2, "target_modules": r".*(dense|c_proj|c_attn|o_proj|down_proj|wo|q)"}),
    "s": ("bitfit", {}),
}


def lab(family: str = "bert", names: str = "abclps", dtype: torch.dtype = torch.float64, heads: str = "") -> Adapted:
    """A tiny model with the children of these names."""
    handle = adapt(tiny(family, dtype))
    for seed, name in enumerate(names):
        if CHILDREN[name][0] != "bitfit" or family in ("bert", "gpt2", "vit"):
            method, config = CHILDREN[name]
            add_frozen(handle, method, name, config, seed, "auto" if name in heads else None)
    return handle


def hidden(handle: Adapted, inputs: Any, expr: Any = None) -> torch.Tensor:
    with torch.no_grad(), handle.using(expr):
        return handle.model(**inputs).last_hidden_state  # type: ignore[no-any-return]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBCLI_HOME", str(tmp_path / "home"))


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("family", [family for family in MODELS if (GOLDENS / family).is_dir()])
def test_adapterhubs_fusion_gives_what_its_library_gives(family: str, tmp_path: Path) -> None:
    folder = GOLDENS / family
    handle = adapt(MODELS[family].from_pretrained(folder / "base").eval())
    for name in FUSED.split(","):
        handle.load(folder / "adapters" / name)
    handle.load(folder / "fusions" / FUSED, "mix")
    inputs, wanted = load_file(folder / "inputs.safetensors"), load_file(folder / "outputs.safetensors")
    found = hidden(handle, inputs, Fuse("seq_bn", "seq_bn_b", by="mix"))
    assert apart(found, wanted[f"fuse({FUSED})"]) <= 1e-5
    assert apart(found, hidden(handle, inputs, Average("seq_bn", "seq_bn_b"))) > 0.01
    for format, file in (("adapterhub", "model_adapter_fusion.safetensors"), ("hubcli", "fusion.safetensors")):
        handle.save("mix", tmp_path / format, format=format)
        again = handle.load(tmp_path / format)
        assert torch.equal(hidden(handle, inputs, Fuse("seq_bn", "seq_bn_b", by=again)), found)
        assert (tmp_path / format / file).is_file()
    keys = torch.load(folder / "fusions" / FUSED / "pytorch_model_adapter_fusion.bin", weights_only=True)
    written = load_file(tmp_path / "adapterhub" / "model_adapter_fusion.safetensors")
    assert {key: t.shape for key, t in written.items()} == {key: t.shape for key, t in keys.items()}
    assert all(torch.equal(written[key], keys[key]) for key in keys)


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


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_saved_and_loaded_to_the_bit_and_copied(dtype: torch.dtype, tmp_path: Path) -> None:
    handle, inputs = lab("bert", "abls", dtype), inputs_of("bert")
    keys = set(handle.model.state_dict())
    add_frozen(handle, "fusion", "f", {"of": ["a", Stack("b", "l"), None, "s"], "dropout_prob": 0.1}, 4, "auto")
    expr = Fuse("a", Stack("b", "l"), None, "s")
    found = under(handle, inputs, expr)
    handle.save("f", tmp_path / "mix", format="hubcli")
    assert handle.load(tmp_path / "mix") == "mix" == handle.load(tmp_path / "mix")
    assert torch.equal(under(handle, inputs, Fuse(*expr.children, by="mix")), found)
    for file in ("manifest.json", "fusion.safetensors"):
        handle.save("mix", tmp_path / "again", format="hubcli")
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "mix" / file).read_bytes()
    info = handle.adapters["mix"]
    assert (info.method, info.config["of"], info.heads) == (
        "fusion",
        ["a", "stack(b, l)", "none", "s"],
        ("classifier",),
    )
    with pytest.raises(ExpressionError, match="several fusions of a, stack"):
        handle.activate(expr)
    handle.activate(Fuse(*expr.children, by="mix"))
    with pytest.raises(ActiveError, match="in use"):
        handle.detach("mix")
    for twin in (copy.deepcopy(handle.model), pickle.loads(pickle.dumps(handle.model))):
        assert torch.equal(output(twin, inputs), found)
        assert set(twin.state_dict()) == keys == set(handle.model.state_dict())
    handle.activate(None)
    handle.detach("mix")
    assert torch.equal(under(handle, inputs, expr), found)
    handle.model.to(torch.float32)
    assert apart(under(handle, inputs, expr), found) < (0.2 if dtype == torch.bfloat16 else 1e-4)


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


def test_damaged_folders_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    handle = lab("bert", "ab")
    add_frozen(handle, "fusion", "f", {"of": ["a", "b"]}, 4)
    handle.save("f", tmp_path / "f", format="hubcli")
    whole = load_file(tmp_path / "f" / "fusion.safetensors")
    first = next(key for key in whole if key.endswith("value_weight"))
    wider = adapt(tf.BertModel(tf.BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4)))
    with pytest.raises(BaseMismatchError, match="shape"):
        wider.load(tmp_path / "f", "g", allow_base_mismatch=True)
    for change, error, message in (
        ({first: torch.full_like(whole[first], torch.nan)}, WeightsError, "NaN"),
        ({f"{first}s": whole[first].clone()}, WeightsError, "expected key_bias"),
        (
            {"bert.pooler.dense:output.value_weight": whole[first].clone()},
            WeightsError,
            "the sites that manifest.json names",
        ),
        ({key: None for key in whole if "layer.1" in key}, WeightsError, "the sites that manifest.json names"),
    ):
        tensors = {key: t for key, t in {**whole, **change}.items() if t is not None}
        save_file(tensors, tmp_path / "f" / "fusion.safetensors")
        with pytest.raises(error, match=message):
            handle.load(tmp_path / "f", "g")
    assert list(handle.adapters) == ["a", "b", "f"]


@pytest.mark.usefixtures("home")
def test_adapterhubs_folder_needs_its_adapters_and_they_must_act_in_one_place(tmp_path: Path) -> None:
    folder = GOLDENS / "bert"
    handle = adapt(tf.BertModel.from_pretrained(folder / "base").eval())
    with pytest.raises(NotFoundError, match="seq_bn, seq_bn_b"):
        handle.load(folder / "fusions" / FUSED)
    handle.load(folder / "adapters" / "double_seq_bn", "seq_bn")
    handle.load(folder / "adapters" / "seq_bn_b", "b")
    with pytest.raises(UnsupportedError, match="fuses adapters of one place"):
        handle.load(folder / "fusions" / FUSED)
    handle.detach("seq_bn")
    handle.load(folder / "adapters" / "par_bn", "seq_bn")
    with pytest.raises(UnsupportedError, match="one place"):
        handle.load(folder / "fusions" / FUSED)
    handle.detach("seq_bn")
    handle.load(folder / "adapters" / "seq_bn", "one")  # found by the name in its file
    assert handle.load(folder / "fusions" / FUSED, "mix") == "mix"
    inputs, wanted = load_file(folder / "inputs.safetensors"), load_file(folder / "outputs.safetensors")
    assert apart(hidden(handle, inputs, Fuse("one", "b", by="mix")), wanted[f"fuse({FUSED})"]) <= 1e-5
    handle.add("fusion", "blocks", {"of": [Stack("one", "b"), "b"]}, head=None)
    with pytest.raises(UnsupportedError, match="name adapters"):
        handle.save("blocks", tmp_path / "x", format="adapterhub")
    with pytest.raises(UnsupportedError, match="can't be written as 'peft'"):
        handle.save("blocks", tmp_path / "x")


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


@pytest.mark.usefixtures("home")
def test_load_adapter_loads_the_fusion_and_lets_a_head_be_chosen(tmp_path: Path) -> None:
    handle, inputs = lab("bert", "abn", heads="ab"), inputs_of("bert")
    add_frozen(handle, "fusion", "f", {"of": ["a", "b", "n"]}, 4)
    for name in "abnf":
        handle.save(name, tmp_path / name, format="hubcli")
    a, b, n, f = (str(tmp_path / name) for name in "abnf")
    outs = {}
    for name, ref in (("a", a), ("b", b)):
        handle.head = name
        outs[name] = under(handle, inputs, Fuse("a", "b", by="f"))
        adapted = load_adapter(f'fuse("{a}", "{b}", by="{f}")', tiny("bert"), head=ref)
        assert torch.equal(output(adapted.model, inputs), outs[name])
        assert adapted.active == Fuse("a", "b", by="f")
    assert apart(outs["a"], outs["b"]) > 1e-3
    both = Fuse(a, b, n, by=f)
    for head, error, message in (
        (None, UnsupportedError, "different heads"),
        ("a", UsageError, "expected a child of a Fuse"),
        (n, UsageError, "has no head"),
    ):
        model = tiny("bert")
        with pytest.raises(error, match=message):
            load_adapter(both, model, head=head)
        assert adapt(model).head is None and not adapt(model).adapters


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
