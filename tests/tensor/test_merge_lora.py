"""Several LoRAs made one: against plain peft that loads what was made, peft's own merging, and dense decompositions."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, Expr, Stack
from hubcli.errors import HubcliError, UnsupportedError, UsageError
from hubcli.merge_types import options_of
from hubcli.merging import merge

from .models import apart, inputs_of, logits, model_of, peft_adapter

pytestmark = pytest.mark.filterwarnings("ignore")
MIX = Average("a", "b", weights=[0.7, -0.3])
Options = Mapping[str, Any]


def made(base: nn.Module, folder: Path, *options: Options, task: str = "") -> Adapted:
    """A handle with peft's adapters a, b, … of these options, on a base whose biases are not zero."""
    torch.manual_seed(0)
    for name, parameter in base.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.3)
    handle = adapt(base)
    for seed, (name, given) in enumerate(zip("abcd", options, strict=False), 1):
        peft_adapter(base, folder / name, task, seed, **given)
    for name, _ in zip("abcd", options, strict=False):
        handle.load(folder / name, name)
    return handle


def report_of(
    handle: Adapted, expr: Expr, how: str = "exact", head: str | None = None, **options: Any
) -> dict[str, Any]:
    return merge(handle, expr, "m", options_of(how, **options), head=head)


def under(handle: Adapted, expr: Expr, inputs: dict[str, Tensor]) -> Tensor:
    with handle.using(expr):
        return logits(handle.model, inputs)


def in_peft(handle: Adapted, folder: Path, inputs: dict[str, Tensor]) -> Tensor:
    """Logits of plain peft with what `m` was saved as."""
    handle.save("m", folder / "m")
    base = handle.model
    handle.detach()
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), folder / "m", autocast_adapter_dtype=False)
    return logits(loaded.eval(), inputs)


EXACT: dict[str, tuple[str, list[Options], Expr]] = {
    "ranks, rsLoRA, patterns, other modules": (
        "bert",
        [
            {"r": 4, "lora_alpha": 6, "target_modules": ["query", "value"]},
            {
                "r": 3,
                "use_rslora": True,
                "target_modules": ["query", "dense"],
                "rank_pattern": {"layer.0.attention.self.query": 5},
                "alpha_pattern": {"layer.1.output.dense": 7},
            },
        ],
        MIX,
    ),
    "nested": (
        "llama",
        [{"r": 2 + i, "target_modules": targets} for i, targets in enumerate([["q_proj"], ["v_proj", "q_proj"], ["up_proj"]])],
        Stack(Average("a", Stack("b", "c"), None, weights=[0.5, 2.0, 9.0]), "a"),
    ),
    "Conv1D and embeddings": (
        "gpt2",
        [{"r": 2, "target_modules": ["c_attn", "wte"]}, {"r": 3, "target_modules": ["wte", "wpe", "c_proj"]}],
        MIX,
    ),
    "a pattern, one layer": (
        "t5",
        [{"r": 2, "target_modules": r".*decoder.*\.q"}, {"r": 3, "target_modules": ["q", "k"], "layers_to_transform": [1]}],
        Stack("a", "b"),
    ),
    "convolution": (
        "vit",
        [{"r": 2, "target_modules": ["projection", "q_proj"]}, {"r": 3, "target_modules": ["projection"]}],
        MIX,
    ),
    "lora_bias of one": (
        "bert",
        [{"r": 2, "lora_alpha": 5, "lora_bias": True, "target_modules": ["query"]}, {"r": 2, "target_modules": ["query", "value"]}],
        MIX,
    ),
    "the base's biases of one": (
        "bert",
        [{"r": 2, "bias": "lora_only", "target_modules": ["query"]}, {"r": 2, "target_modules": ["query", "value"]}],
        MIX,
    ),
    "one, halved": ("bert", [{"r": 2, "use_rslora": True, "target_modules": ["query"]}], Average("a", weights=[0.5])),
    "all-linear": ("roberta", [{"r": 2, "target_modules": "all-linear"}, {"r": 3, "target_modules": ["dense"]}], MIX),
}  # fmt: skip


@pytest.mark.parametrize("case", EXACT)
def test_an_exact_merge_is_the_composition_and_loads_in_peft(case: str, tmp_path: Path) -> None:
    family, options, expr = EXACT[case]
    inputs = inputs_of(family)
    handle = made(model_of(family), tmp_path, *options)
    before = under(handle, None, inputs)
    report = report_of(handle, expr)
    wanted = under(handle, expr, inputs)
    assert apart(under(handle, "m", inputs), wanted) <= 1e-10
    assert apart(wanted, before) > 1e-3
    assert report["error"]["overall"] <= 1e-12
    assert apart(in_peft(handle, tmp_path, inputs), wanted) <= 1e-10


IDENTITY: dict[str, Options] = {
    "plain": {"r": 4, "lora_alpha": 6},
    "rslora": {"r": 4, "lora_alpha": 6, "use_rslora": True},
    "dora": {"r": 4, "use_dora": True},
    "lora_bias": {"r": 4, "lora_alpha": 6, "lora_bias": True},
    "base biases": {"r": 4, "bias": "lora_only", "rank_pattern": {"value": 2}},
}


@pytest.mark.parametrize(
    "expr", ["a", Stack("a"), Average("a", weights=[1.0]), Average("a", "b", weights=[1.0, 0.0])], ids=str
)
@pytest.mark.parametrize("case", IDENTITY)
def test_one_adapter_of_weight_1_is_itself(case: str, expr: Expr, tmp_path: Path) -> None:
    given = {"target_modules": ["query", "value"], **IDENTITY[case]}
    handle = made(model_of("bert"), tmp_path, given, {"r": 2, "target_modules": ["key"]}, task="SEQ_CLS")
    report = report_of(handle, expr, head="a")
    assert report["how"] == "identity"
    handle.save("m", tmp_path / "m")
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in "am")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) and one[key].dtype == other[key].dtype for key in one)
    one, other = (json.loads((tmp_path / name / "adapter_config.json").read_text()) for name in "am")
    heads = [
        {m for m in config.pop("modules_to_save") if m != "score"} for config in (one, other)
    ]  # which BERT has not
    assert heads == [{"classifier"}] * 2
    for config in (one, other):
        config["target_modules"] = sorted(config["target_modules"])
        del config["auto_mapping"]
    assert one == other


def test_dora_is_cut_from_its_exact_change(tmp_path: Path) -> None:
    inputs = inputs_of("bert")
    options = {"r": 4, "target_modules": ["query", "word_embeddings"]}
    handle = made(model_of("bert"), tmp_path, {**options, "use_dora": True}, options)
    with pytest.raises(UnsupportedError, match="'a' is a DoRA") as refused:
        report_of(handle, MIX)
    assert "svd" in str(refused.value.hint)
    report = report_of(handle, MIX, "svd", energy=1.0)
    assert report["error"]["overall"] <= 1e-12
    assert report["rank"]["max"] == 16
    wanted = under(handle, MIX, inputs)
    assert apart(under(handle, "m", inputs), wanted) <= 1e-9
    assert apart(in_peft(handle, tmp_path, inputs), wanted) <= 1e-9


def test_one_adapter_is_cut_when_that_is_asked_for(tmp_path: Path) -> None:
    """A DoRA becomes a LoRA; a LoRA of rank 4 one of rank 2, and keeps what it does where nothing is cut away."""
    inputs, options = inputs_of("bert"), {"r": 4, "target_modules": ["query"]}
    handle = made(model_of("bert"), tmp_path, {**options, "use_dora": True}, options)
    for name, cut, rank in (("a", {"energy": 1.0}, 16), ("b", {"rank": 9}, 4)):
        report = merge(handle, name, f"{name}-cut", options_of("svd", **cut))
        assert (report["how"], report["rank"]["max"]) == ("svd", rank)
        assert apart(under(handle, f"{name}-cut", inputs), under(handle, name, inputs)) <= 1e-9
    assert not handle.engine.adapters["a-cut"].settings.dora
    report = report_of(handle, "b", "svd", rank=2)
    assert report["rank"] == {"min": 2, "max": 2} and report["error"]["overall"] > 0.01


def dense(handle: Adapted, **weights: float) -> dict[str, Tensor]:
    """The weighted sums of plain LoRAs' changes, by module."""
    found: dict[str, Tensor] = {}
    for name, weight in weights.items():
        adapter = handle.engine.adapters[name]
        for site, t in adapter.sites.items():
            change = adapter.settings.scale(site.path) * t["lora_B"].double() @ t["lora_A"].double() * weight
            found[site.path] = found.get(site.path, torch.zeros_like(change)) + change
    return found


@pytest.mark.parametrize("cut", [{"rank": 3}, {"energy": 0.8}, {"energy": 0.999, "rank": 5}, {"rank": 99}], ids=str)
def test_svd_is_the_nearest_and_states_its_error(cut: dict[str, Any], tmp_path: Path) -> None:
    options = [{"r": 4, "target_modules": ["query", "value"]}, {"r": 3, "target_modules": ["query", "dense"]}]
    handle = made(model_of("bert"), tmp_path, *options)
    report = report_of(handle, MIX, "svd", **cut)
    exact, got = dense(handle, a=0.7, b=-0.3), dense(handle, m=1.0)
    wrong, worst = [], {}
    for path, change in exact.items():
        values = torch.linalg.svdvals(change)
        rank = min(int((values > 1e-12).sum()), cut.get("rank", 99))
        if "energy" in cut:
            shares = values.square().cumsum(0) / values.square().sum()
            rank = min(rank, 1 + int((shares < cut["energy"]).sum()))
        assert handle.engine.adapters["m"].settings.rank(path) == rank, path
        lost = float(values[rank:].square().sum().sqrt())
        assert abs(float((got[path] - change).norm()) - lost) <= 1e-9
        wrong.append(lost)
        worst[path] = lost / float(change.norm())
    whole = torch.stack([change.norm() for change in exact.values()]).norm()
    assert report["error"]["overall"] == pytest.approx(float(torch.tensor(wrong).norm() / whole), abs=1e-7)
    assert report["error"]["largest"]["error"] == pytest.approx(max(worst.values()), abs=1e-9)


def pefts(base: nn.Module, folder: Path, seed: int, monkeypatch: pytest.MonkeyPatch, **options: Any) -> PeftModel:
    """peft's own merge of a and b. Its new module takes random numbers first, so the seed is set after that."""
    import peft.tuners.lora.model as inside

    freeze = inside._freeze_adapter
    monkeypatch.setattr(inside, "_freeze_adapter", lambda *given: (freeze(*given), torch.manual_seed(seed)))
    both = PeftModel.from_pretrained(copy.deepcopy(base), folder / "a", adapter_name="a")
    both.load_adapter(folder / "b", "b")
    both.base_model.add_weighted_adapter(["a", "b"], [0.7, -0.3], "m", **options)
    return both


PRUNED = [
    *(
        ({"how": how, "density": 0.4, "majority_sign": sign})
        for how in ("ties", "dare_ties")
        for sign in ("total", "frequency")
    ),
    *({"how": how, "density": 0.4} for how in ("dare_linear", "magnitude_prune")),
]


@pytest.mark.parametrize("after", ["", "_svd"])
@pytest.mark.parametrize("given", PRUNED, ids=lambda given: "-".join(str(v) for v in given.values()))
def test_pruning_is_pefts(given: dict[str, Any], after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"r": 3, "target_modules": ["query", "value", "word_embeddings"]}
    base = model_of("bert", torch.float32)
    others = {"r": 3, "lora_alpha": 5, "target_modules": ["query", "dense"]}
    how = given["how"] + after
    more = {key: value for key, value in given.items() if key != "how"}
    seed = {"seed": 11} if how.startswith("dare") else {}
    handle = made(base, tmp_path, options, others)
    rank = {"rank": 3} if after else {}
    report = report_of(handle, MIX, how, **more, **seed, **rank)
    signs = {"majority_sign_method": more["majority_sign"]} if "majority_sign" in more else {}
    oracle = pefts(base, tmp_path, 11, monkeypatch, combination_type=how, density=0.4, **signs)
    compared = 0
    for path, module in oracle.base_model.model.named_modules():
        if not hasattr(module, "lora_A") or "m" not in {*module.lora_A, *module.lora_embedding_A}:
            continue
        tensors = next(t for site, t in handle.engine.adapters["m"].sites.items() if site.path == path)
        if "m" in module.lora_A:
            wanted = [module.lora_A["m"].weight, module.lora_B["m"].weight]
        else:
            wanted = [module.lora_embedding_A["m"], module.lora_embedding_B["m"]]
        got = [tensors[key] for key in sorted(tensors)]
        if not after:
            assert all(torch.equal(one, other) for one, other in zip(got, wanted, strict=True)), path
        elif not how.startswith("dare") or "m" in module.lora_A:  # peft draws for an embedding's transpose
            assert apart(got[1] @ got[0], wanted[1] @ wanted[0]) <= 1e-5, path
        compared += 1
    assert compared == len(handle.engine.adapters["m"].sites) == report["sites"]
    assert report["error"]["overall"] > 0.01
    again = merge(handle, MIX, "again", options_of(how, **more, **seed, **rank))
    assert again["error"] == report["error"]


REFUSED: dict[str, tuple[Expr, dict[str, Any], str]] = {
    "unequal ranks": (MIX, {"how": "ties", "density": 0.5}, "equal ranks, found 'a' 4, 'b' 3"),
    "no such way": (MIX, {"how": "tie"}, "no way to merge"),
    "no density": (MIX, {"how": "ties_svd", "rank": 3}, "density"),
    "no rank": (MIX, {"how": "svd"}, "needs one of them"),
    "a rank for exact": (MIX, {"how": "exact", "rank": 3}, "rank: 3 means nothing to exact"),
    "a seed for ties": (MIX, {"how": "ties", "density": 0.5, "seed": 1}, "seed: 1 means nothing"),
    "a share above 1": (MIX, {"how": "svd", "energy": 1.5}, "energy: expected a share"),
    "rank 0": (MIX, {"how": "svd", "rank": 0}, "rank: expected"),
    "a share for exact": (MIX, {"how": "exact", "energy": 0.5}, "energy: 0.5 means nothing to exact"),
    "nothing": (Average("a", weights=[0.0]), {}, "nothing to merge"),
    "an unknown name": (Average("a", "nobody"), {}, "'nobody' is loaded"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused_and_changes_nothing(case: str, tmp_path: Path) -> None:
    expr, options, says = REFUSED[case]
    handle = made(
        model_of("bert"), tmp_path, {"r": 4, "target_modules": ["query"]}, {"r": 3, "target_modules": ["query"]}
    )
    with pytest.raises(HubcliError, match=says):
        report_of(handle, expr, **options)
    assert list(handle.adapters) == ["a", "b"]


def test_the_handle_merges_and_says_what_it_did(tmp_path: Path) -> None:
    handle = made(
        model_of("bert"), tmp_path, {"r": 4, "target_modules": ["query"]}, {"r": 3, "target_modules": ["query"]}
    )
    assert handle.merge(MIX, "m", "svd", rank=2) == "m"
    assert handle.active is None
    assert len(handle.trainable("m")) == 4
    handle.trainable([])
    assert "0.7 · a + -0.3 · b (svd, relative error" in handle.adapters["m"].notes[-1]
    with pytest.raises(UsageError, match="head: 'a' has no head"):
        handle.merge(MIX, "n", head="a")
    with pytest.raises(HubcliError, match="loaded already"):
        handle.merge(MIX, "m")


class Grouped(nn.Module):
    """One convolution with groups."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(4, 6, 3, groups=2, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@pytest.mark.parametrize("how", [{"how": "exact"}, {"how": "svd", "energy": 1.0}], ids=str)
def test_a_convolution_with_groups(how: dict[str, Any]) -> None:
    base = Grouped()
    handle = adapt(base)
    for seed, (name, rank) in enumerate({"a": 2, "b": 4}.items()):
        handle.add("lora", name, {"r": rank, "target_modules": ["conv"]}, head=None)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in handle.trainable(name):
                parameter.copy_(torch.randn_like(parameter))
    handle.trainable([])
    handle.merge(MIX, "m", **how)
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    outs = []
    for expr in (MIX, "m", None):
        with handle.using(expr), torch.no_grad():
            outs.append(base(x))
    assert apart(outs[0], outs[1]) <= 1e-10
    assert apart(outs[0], outs[2]) > 0.1
    with pytest.raises(UnsupportedError, match="with groups"):
        handle.merge(MIX, "n", "ties_svd", rank=2, density=0.5)


def test_random_numbers_elsewhere_are_not_touched(tmp_path: Path) -> None:
    handle = made(
        model_of("bert"), tmp_path, {"r": 3, "target_modules": ["query"]}, {"r": 3, "target_modules": ["query"]}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.manual_seed(3)
        before = torch.rand(1)
        torch.manual_seed(3)
        report_of(handle, MIX, "dare_ties", density=0.5)
        assert torch.equal(torch.rand(1), before)
