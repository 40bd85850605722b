"""Several adapters of one method made one, saved, read again: the composition's own outputs; and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hubcli.adapted import adapt
from hubcli.composition import Average, BatchSplit, Expr, Fuse, Parallel, Split, Stack
from hubcli.errors import BaseMismatchError, FusedError, HubcliError
from hubcli.manifest import BaseModel
from hubcli.merge_types import MergeOptions, MergePart, options_of
from hubcli.merging import merge
from hubcli.method import Method

from .frozen import Given, frozen, under
from .models import apart, inputs_of, model_of

pytestmark = pytest.mark.filterwarnings("ignore")
MIX = Average("a", "b", weights=[0.7, -0.3])
STACK = Stack("a", "b")
BOTH = {"mh_adapter": True, "output_adapter": True}
LINE = {"flat": True, "encoder_prefix": True}


SAME: dict[str, tuple[str, list[Given], Expr, str]] = {
    "bitfit": ("bert", [("bitfit", {})] * 2, MIX, "hubcli"),
    "bitfit of other modules": ("gpt2", [("bitfit", {"target_modules": ["c_attn"]}), ("bitfit", {"target_modules": ["c_fc", "ln_1"]})], STACK, "hubcli"),
    "bitfit that adds biases": ("llama", [("bitfit", {"target_modules": ["q_proj"], "add_biases": True}), ("bitfit", {"add_biases": True})], Stack(MIX, "a"), "hubcli"),
    "prefixes": ("bert", [("prefix", {"prefix_length": 3, "flat": True}), ("prefix", {"prefix_length": 2, "bottleneck_size": 5})], STACK, "hubcli"),
    "prefixes that count as tokens": ("gpt2", [("prefix", {"prefix_length": 3, "position_shift": True}), ("prefix", {"prefix_length": 2, "flat": True, "position_shift": True})], STACK, "peft"),
    "prefixes in AdapterHub's files": ("bert", [("prefix", {"prefix_length": 3, **LINE}), ("prefix", {"prefix_length": 1, **LINE})], Stack("b", "a", "b"), "adapterhub"),
    "prefixes of an encoder-decoder": ("t5", [("prefix", {"prefix_length": 3}), ("prefix", {"prefix_length": 2})], Average("a", "b", weights=[1, 1]), "hubcli"),
    "bottlenecks": ("bert", [("bottleneck", {"reduction_factor": 4, "scaling": 2.0}), ("bottleneck", {"reduction_factor": 3, "scaling": "learned"})], MIX, "adapterhub"),
    "bottlenecks of other places": ("bert", [("bottleneck", {**BOTH, "original_ln_before": False, "leave_out": [0]}), ("bottleneck", {"original_ln_before": False, "reduction_factor": {"0": 4, "1": 7}})], MIX, "adapterhub"),
    "parallel bottlenecks, stacked": ("gpt2", [("bottleneck", {"variant": "par_bn"}), ("bottleneck", {"variant": "par_bn", "scaling": "channel", "reduction_factor": 3})], Stack("a", Average("b", "a")), "hubcli"),
    "Compacter": ("bert", [("bottleneck", {"variant": "compacter", "phm_dim": 2, "reduction_factor": 4}), ("bottleneck", {"variant": "houlsby", "non_linearity": "gelu", "reduction_factor": 5})], MIX, "adapterhub"),
    "a bottleneck, halved": ("vit", [("bottleneck", {"reduction_factor": 4, "non_linearity": "sigmoid"})], Average("a", None), "hubcli"),
    "bottlenecks of a decoder and an encoder": ("t5", [("bottleneck", {"reduction_factor": 4}), ("bottleneck", BOTH)], Average("a", "b"), "hubcli"),
}  # fmt: skip


# the fewest and the most: tokens of a prefix, units of a bottleneck; what stands there twice is there once if that is the same
RANKS = {
    "prefixes": (5,),
    "prefixes that count as tokens": (5,),
    "prefixes in AdapterHub's files": (5,),
    "prefixes of an encoder-decoder": (5,),
    "bottlenecks": (9,),
    "bottlenecks of other places": (3, 4),
    "parallel bottlenecks, stacked": (13,),
    "Compacter": (7,),
    "a bottleneck, halved": (4,),
    "bottlenecks of a decoder and an encoder": (5,),
}


@pytest.mark.parametrize("case", SAME)
def test_the_merged_one_is_the_composition(case: str, tmp_path: Path) -> None:
    family, given, expr, format = SAME[case]
    ranks = RANKS.get(case)
    handle, inputs = frozen(model_of(family), *given), inputs_of(family)
    before = under(handle, inputs, None)
    report = merge(handle, expr, "m", options_of(None))
    assert report["rank"] == (ranks and {"min": ranks[0], "max": ranks[-1]})
    wanted = under(handle, inputs, expr)
    assert apart(under(handle, inputs, "m"), wanted) <= 1e-10
    assert apart(wanted, before) > 1e-3
    handle.save("m", tmp_path / "m", format)
    again = adapt(model_of(family))
    again.load(tmp_path / "m", "m")
    assert apart(under(again, inputs, "m"), wanted) <= 1e-10


@pytest.mark.parametrize("given", [("bitfit", {}), ("prefix", {"prefix_length": 3, "bottleneck_size": 4}), ("bottleneck", {"variant": "compacter", "phm_dim": 2, "reduction_factor": 4, "scaling": "learned"})], ids=lambda g: g[0])  # fmt: skip
def test_one_of_weight_1_is_itself(given: Given, tmp_path: Path) -> None:
    handle = frozen(model_of("bert"), given)
    handle.merge(Average("a", weights=[1.0]), "m")
    for name in "am":
        handle.save(name, tmp_path / name, "hubcli")
    for file in ("manifest.json", "adapter.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "m" / file).read_bytes()


LORA: Given = ("lora", {"r": 2, "target_modules": ["query"]})
PFEIFFER: Given = ("bottleneck", {"reduction_factor": 4})
FLAT: Given = ("prefix", {"prefix_length": 2, "flat": True})
SHIFT: Given = ("prefix", {"prefix_length": 2, "flat": True, "position_shift": True})
REFUSED: dict[str, tuple[list[Given], Expr, dict[str, Any], str]] = {
    "two methods": ([LORA, PFEIFFER], MIX, {}, "'a' is lora, 'b' is bottleneck"),
    "bottlenecks in a row": ([PFEIFFER, PFEIFFER], STACK, {}, "a Stack of bottlenecks is a sequence"),
    "deeper": ([PFEIFFER, PFEIFFER, PFEIFFER], Average("c", STACK), {}, "a Stack of bottlenecks is a sequence"),
    "activations": ([PFEIFFER, ("bottleneck", {"non_linearity": "tanh"})], MIX, {}, "activation relu and tanh"),
    "svd of a bottleneck": ([PFEIFFER, PFEIFFER], MIX, {"how": "svd", "rank": 2}, "can't be merged by svd"),
    "weighted prefixes": ([FLAT, FLAT], Average("a", "b"), {}, "'a' has weight 0.5"),
    "two kinds of prefix": ([FLAT, SHIFT], STACK, {}, "position_shift False and True"),
    "prefixes of other layers": ([FLAT, ("prefix", {"flat": True, "leave_out": [1]})], STACK, {}, r"leave_out \(\) and \(1,\)"),
    "shifted once": ([SHIFT, SHIFT], Average("a", "b", weights=[1, 1]), {}, "in an Average they move once"),
    "ties of biases": ([("bitfit", {})] * 2, MIX, {"how": "ties", "density": 0.5}, "can't be merged by ties"),
    "Split": ([LORA, LORA], Split("a", "b", sizes=[3, 4]), {}, "a Split is no sum"),
    "BatchSplit": ([LORA, LORA], Average("a", BatchSplit("a", "b", sizes=[1, 2])), {}, "a BatchSplit is no sum"),
    "Parallel": ([LORA, LORA], Parallel("a", "b"), {}, "a Parallel is no sum"),
    "Fuse": ([LORA, LORA], Fuse("a", "b"), {}, "a Fuse is no sum"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_be_no_one_adapter_is_refused_by_name(case: str) -> None:
    given, expr, options, says = REFUSED[case]
    handle = frozen(model_of("bert"), *given)
    names = list(handle.adapters)
    with pytest.raises(HubcliError, match=says):
        handle.merge(expr, "m", **options)
    assert list(handle.adapters) == names


def test_different_bases_are_named(tmp_path: Path) -> None:
    handle = frozen(model_of("bert"), LORA, LORA)
    for name, id in {"a": "acme/one", "b": "acme/two"}.items():
        handle.engine.adapters[name].base = BaseModel(id)
    with pytest.raises(BaseMismatchError, match="'a' was made for acme/one, 'b' for acme/two"):
        handle.merge(MIX, "m")
    handle.merge(MIX, "m", allow_base_mismatch=True)
    handle.engine.adapters["b"].base = BaseModel("acme/one", revision="1" * 40, architecture="BertModel")
    handle.merge(MIX, "n")
    handle.save("n", tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("acme/one", "1" * 40)


def test_a_method_that_says_nothing_of_merging_refuses_by_name() -> None:
    class Bare(Method[Any]):
        name = "bare"

    with pytest.raises(HubcliError, match="'bare' does not say how several of its adapters become one: 'a', 'b'"):
        Bare().merged(None, [MergePart(name, 1.0, {}, None, {}) for name in "ab"], MergeOptions())  # type: ignore[arg-type]


def test_not_while_fused_and_nothing_stays_of_what_failed(tmp_path: Path) -> None:
    handle = frozen(model_of("bert"), LORA, PFEIFFER)
    for name in "ab":
        handle.save(name, tmp_path / name, "hubcli")
    other = adapt(model_of("bert"))
    with pytest.raises(HubcliError, match="different methods"):
        other.merge(Average(str(tmp_path / "a"), str(tmp_path / "b")), "m")
    assert not other.adapters
    handle.fuse("a")
    with pytest.raises(FusedError, match="merge: a is fused"):
        handle.merge("a", "m")
    handle.unfuse()
    handle.merge("a", "m")


def test_what_cancels_out_is_an_adapter_of_nothing() -> None:
    handle, inputs = frozen(model_of("bert"), LORA), inputs_of("bert")
    report = merge(handle, Average("a", "a", weights=[1, -1]), "m", options_of(None))
    assert report["error"] == {"overall": None, "largest": None}
    assert torch.equal(under(handle, inputs, "m"), under(handle, inputs, None))
