"""The head of a merged adapter: what answers under the composition, or the chosen one; never one lost in silence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file
from torch import Tensor

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, Expr, Stack
from hubcli.errors import HubcliError
from hubcli.merge_types import options_of
from hubcli.merging import merge

from .frozen import frozen, under
from .goldens import BERT, INPUTS
from .models import apart, inputs_of, model_of

pytestmark = pytest.mark.filterwarnings("ignore")
TARGETS = {"bert": ["query"], "roberta": ["query"], "gpt2": ["c_attn"]}


def made(family: str, heads: Sequence[Any]) -> Adapted:
    """Frozen LoRAs a, b, … with these heads, none of whose numbers is at its start."""
    lora = ("lora", {"r": 2, "target_modules": TARGETS[family]})
    return frozen(model_of(family), *[lora] * len(heads), heads=heads)


KEPT: dict[str, tuple[str, list[Any], Expr, str, tuple[str, ...], tuple[str, ...]]] = {
    "the average of linear heads": ("bert", ["auto"] * 2, Average("a", "b", weights=[0.7, -0.2]), "averaged", ("a", "b"), ()),
    "of those that have one": ("bert", ["auto", None, "auto"], Average("a", "b", "c"), "averaged", ("a", "c"), ()),
    "the last of a stack": ("bert", ["auto", "auto", None], Stack("a", "b", "c"), "kept", ("b",), ("a",)),
    "one of several maps, alone": ("roberta", ["auto", None], Average("b", "a"), "kept", ("a",), ()),
    "nested": ("bert", ["auto"] * 3, Stack("a", Average("b", Stack("a", "c"))), "averaged", ("b", "c"), ("a",)),
    "different modules": ("bert", [["bert.pooler"], "auto"], Stack("b", "a"), "kept", ("b", "a"), ()),
    "none": ("bert", [None, None], Stack("a", "b"), "none", (), ()),
    "a language model's": ("gpt2", [["lm_head"], ["lm_head"]], Average("a", "b"), "averaged", ("a", "b"), ()),
}  # fmt: skip


@pytest.mark.parametrize("case", KEPT)
def test_the_head_is_what_answers_under_the_composition(case: str, tmp_path: Path) -> None:
    family, heads, expr, how, of, left_out = KEPT[case]
    handle, inputs = made(family, heads), inputs_of(family)
    report = merge(handle, expr, "m", options_of(None))["head"]
    assert (report["how"], set(report["of"]), tuple(report["left_out"])) == (how, set(of), left_out)
    wanted = under(handle, inputs, expr)
    assert apart(under(handle, inputs, "m"), wanted) <= 1e-10
    handle.save("m", tmp_path)
    again = adapt(model_of(family))
    again.load(tmp_path, "m")
    assert apart(under(again, inputs, "m"), wanted) <= 1e-10
    assert set(again.adapters["m"].heads) == set(handle.adapters["m"].heads)


REFUSED: dict[str, tuple[str, list[Any], Expr, str]] = {
    "heads of several maps": ("roberta", ["auto"] * 2, Average("a", "b"), "made of Linear and Linear"),
    "several modules": ("bert", [["bert.pooler", "classifier"]] * 2, Average("a", "b"), "several modules"),
    "weights that cancel": ("bert", ["auto"] * 2, Average("a", "b", weights=[1, -1]), "add up to 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_no_head_of_that_kind_is_the_average(case: str) -> None:
    family, heads, expr, says = REFUSED[case]
    handle = made(family, heads)
    with pytest.raises(HubcliError, match=says):
        handle.merge(expr, "m")
    handle.merge(expr, "m", head="b")
    own, kept = (handle.engine.adapters[name].heads for name in "bm")
    assert own.keys() == kept.keys()
    for path, twin in own.items():
        assert all(torch.equal(p, q) for p, q in zip(twin.parameters(), kept[path].parameters(), strict=True))


def test_labels_must_be_equal_or_chosen() -> None:
    handle = made("bert", ["auto"] * 2)
    handle.engine.adapters["a"].labels, handle.engine.adapters["b"].labels = ("no", "yes"), ("yes", "no")
    with pytest.raises(HubcliError, match="different labels") as refused:
        handle.merge(Average("a", "b"), "m")
    assert "head=" in str(refused.value.hint)
    handle.merge(Average("a", "b"), "m", head="a")
    assert handle.adapters["m"].labels == ("no", "yes")
    handle.merge(Stack("a", "b"), "n")
    assert handle.adapters["n"].labels == ("yes", "no")


def test_the_same_head_of_all_is_kept_whatever_it_is_made_of() -> None:
    handle = made("roberta", ["auto"] * 2)
    one, other = (handle.engine.adapters[name].heads["classifier"] for name in "ab")
    with torch.no_grad():
        for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
            mine.copy_(theirs)
    report = merge(handle, Average("a", "b"), "m", options_of(None))["head"]
    assert (report["how"], report["left_out"]) == ("kept", [])


def test_what_the_kept_head_replaces_can_be_adapted_by_none() -> None:
    handle = made("bert", ["auto"])
    handle.add("lora", "b", {"r": 2, "target_modules": ["classifier"]}, head=None)
    with pytest.raises(HubcliError, match="classifier is adapted by one adapter, and replaced"):
        handle.merge(Average("a", "b"), "m")


def brought(tmp_path: Path, name: str) -> Adapted:
    """AdapterHub's adapter of this name and a rival of other numbers, each with a head of its own kind."""
    handle = adapt(tf.BertModel.from_pretrained(BERT / "base").eval())
    handle.load(BERT / "adapters" / name, "a")
    handle.save("a", tmp_path / "b", format="adapterhub")
    for file in ("model_head.safetensors", "adapter.safetensors"):
        torch.manual_seed(2)
        noisy = {key: torch.randn_like(tensor) * 0.2 for key, tensor in load_file(tmp_path / "b" / file).items()}
        save_file(noisy, tmp_path / "b" / file)
    handle.load(tmp_path / "b", "b")
    return handle


def answers(handle: Adapted, expr: Expr) -> Tensor:
    with torch.no_grad():
        return handle(**INPUTS, expr=expr).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("format", ["adapterhub", "hubcli"])
def test_a_head_beside_the_model_is_averaged_too(format: str, tmp_path: Path) -> None:
    handle = brought(tmp_path, "span")
    expr = Average("a", "b", weights=[0.6, 0.2])
    handle.merge(expr, "m")
    wanted = answers(handle, expr)
    assert apart(answers(handle, "m"), wanted) <= 1e-5
    assert apart(answers(handle, "a"), wanted) > 0.01
    handle.save("m", tmp_path / "m", format=format)
    again = adapt(tf.BertModel.from_pretrained(BERT / "base").eval())
    again.load(tmp_path / "m", "m")
    assert apart(answers(again, "m"), wanted) <= 1e-5
    assert again.labels_of("m") == handle.labels_of("a")


def test_a_head_beside_the_model_of_several_maps_is_chosen(tmp_path: Path) -> None:
    handle = brought(tmp_path, "sst_with_head")
    with pytest.raises(HubcliError, match="no head of that kind"):
        handle.merge(Average("a", "b"), "m")
    handle.merge(Average("a", "b"), "m", head="b")
    kept, own = (handle.engine.adapters[name].added for name in "mb")
    assert kept is not None and own is not None
    assert all(torch.equal(p, q) for p, q in zip(kept.parameters(), own.parameters(), strict=True))
    handle.load(BERT / "adapters" / "tag", "c")
    with pytest.raises(HubcliError, match="other kinds or labels"):
        handle.merge(Average("b", "c"), "n")
