"""Folders of fusions: AdapterHub's goldens, to the bit and back, damage, and heads by `load_adapter`."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from hubcli import load_adapter
from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, Fuse, Stack
from hubcli.errors import (
    ActiveError,
    BaseMismatchError,
    ExpressionError,
    NotFoundError,
    UnsupportedError,
    UsageError,
    WeightsError,
)
from hubcli.testing import apart, inputs_of, output, tiny

from .frozen import add_frozen, under
from .fused import lab
from .goldens import BARE, GOLDENS

pytestmark = pytest.mark.filterwarnings("ignore")
FUSED = "seq_bn,seq_bn_b"


def hidden(handle: Adapted, inputs: Any, expr: Any = None) -> torch.Tensor:
    with torch.no_grad(), handle.using(expr):
        return handle.model(**inputs).last_hidden_state  # type: ignore[no-any-return]


@pytest.mark.parametrize("family", [family for family in BARE if (GOLDENS / family).is_dir()])
def test_adapterhubs_fusion_gives_what_its_library_gives(family: str, tmp_path: Path) -> None:
    folder = GOLDENS / family
    handle = adapt(BARE[family].from_pretrained(folder / "base").eval())
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
