"""ONNX: BERT's family under every method and block, run by onnxruntime at several shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from torch import Tensor

from hubcli._version import __version__
from hubcli.adapted import Adapted
from hubcli.composition import Average, Parallel, Stack
from hubcli.errors import HubcliError, MissingExtraError, UnsupportedError
from hubcli.exports.onnx import FAMILIES

from .exported import BLOCKS, FIXED, of_bert, shapes_of, texts, with_two, written
from .methods import KNOWN
from .models import FAMILIES as TINY
from .models import model_of

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.filterwarnings("ignore")
LIMIT = 1e-5
FAST = {("lora", "stack")}
CASES = [
    pytest.param(method, block, marks=[] if (method, block) in FAST else [pytest.mark.slow])
    for method in KNOWN
    for block in BLOCKS
    if (method, block) != ("prefix", "fuse")
]
SMALL: dict[str, Any] = {"num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 60, "initializer_range": 0.3}
OTHERS = {
    "electra": (tf.ElectraForSequenceClassification, tf.ElectraConfig(embedding_size=8, hidden_size=16, num_hidden_layers=1, **SMALL)),
    "xlm-roberta": (tf.XLMRobertaForTokenClassification, tf.XLMRobertaConfig(hidden_size=16, num_hidden_layers=1, max_position_embeddings=34, **SMALL)),
}  # fmt: skip


def apart(file: Path, handle: Adapted, inputs: dict[str, Tensor]) -> float:
    """How far onnxruntime is from the hooked model, relative to the largest number where that is above 1."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    found = session.run(None, {k: v.numpy() for k, v in inputs.items() if k in names})
    with torch.no_grad():
        expected = handle(**{k: v for k, v in inputs.items() if k in names}).logits
    expected = expected if isinstance(expected, list) else [expected]
    assert len(found) == len(expected)
    return max(
        float(np.abs(one - other.numpy()).max() / max(1.0, other.abs().max().item()))
        for one, other in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize(("method", "block"), CASES)
def test_onnxruntime_gives_the_hooked_outputs(method: str, block: str, tmp_path: Path) -> None:
    handle, file = of_bert(method, block), tmp_path / "made.onnx"
    handle.activate(BLOCKS[block])
    report = written(handle, "onnx", file)
    rows, length = FIXED.get(block, (None, None))
    assert report["inputs"][0]["axes"] == [rows or "batch", length or "sequence"]
    for shape in shapes_of(block):
        assert apart(file, handle, texts(*shape)) <= LIMIT
    with handle.using("c"):
        assert apart(file, handle, texts(3, 7)) > 1e-3 if block != "parallel" else True


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_that_is_named(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = OTHERS[family][0](OTHERS[family][1]).eval() if family in OTHERS else model_of(family, torch.float32)
    targets = TINY[family][3] if family in TINY else ["query", "dense"]
    handle = with_two(base, {"r": 2, "target_modules": targets}, "lora")
    for expr in (Stack("a", "b"), Average("a", None)):
        handle.activate(expr)
        written(handle, "onnx", tmp_path / "made.onnx", force=True)
        for shape in ((1, 3), (4, 20)):
            assert apart(tmp_path / "made.onnx", handle, texts(*shape)) <= LIMIT


def test_a_file_says_what_it_is_and_not_where_it_was_made(tmp_path: Path) -> None:
    handle = with_two(model_of("bert", torch.float32, num_hidden_layers=1), KNOWN["lora"].config, "lora", head="auto")
    handle.own_labels = ("bad", "göod")
    for name in "ab":
        handle.engine.adapters[name].labels = ("bad", "göod")
    handle.activate(Average("a", "b"))
    report = written(handle, "onnx", tmp_path / "made.onnx", opset=19)
    model = onnx.load(tmp_path / "made.onnx")
    onnx.checker.check_model(model, full_check=True)
    notes = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(notes.pop("labels")) == {"logits": ["bad", "göod"]}
    assert notes == {"expression": "average(a, b)", "hubcli_version": __version__}
    assert report["opset"] == 19 and [found.version for found in model.opset_import if not found.domain] == [19]
    assert [value.name for value in model.graph.input] == ["input_ids", "attention_mask", "token_type_ids"]
    assert [dim.dim_param or dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim] == ["batch", 2]
    data = (tmp_path / "made.onnx").read_bytes()
    for text in (str(Path(tf.__file__).parent), str(Path.cwd()), str(tmp_path), ".py", "hubcli_"):
        assert text.encode() not in data.replace(b"hubcli_version", b""), text
    unused = handle.engine.adapters["c"].sites.values()
    assert not any(tensor.detach().numpy().tobytes() in data for tensors in unused for tensor in tensors.values())


@pytest.mark.parametrize(
    ("family", "dtype", "options", "says"),
    [
        ("gpt2", torch.float32, {}, "albert, bert, distilbert"),
        ("vit", torch.float32, {}, "type 'vit'"),
        ("bert", torch.bfloat16, {}, "found bfloat16"),
        ("bert", torch.float32, {"opset": 9}, "opset 9: expected 18"),
    ],
)
def test_what_is_refused(family: str, dtype: torch.dtype, options: dict[str, Any], says: str, tmp_path: Path) -> None:
    handle = with_two(model_of(family, dtype), {"r": 2, "target_modules": TINY[family][3]}, "lora")
    handle.activate(Parallel("a", "b"))
    with pytest.raises(UnsupportedError, match=says):
        written(handle, "onnx", tmp_path / "made.onnx", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("to", "package"), [("onnx", "onnxscript"), ("gguf", "gguf")])
def test_a_missing_package_is_named_with_what_brings_it(
    to: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hubcli import exports

    own = exports.find_spec
    monkeypatch.setattr(exports, "find_spec", lambda name: None if name == package else own(name))
    with pytest.raises(MissingExtraError, match=f"needs {package}") as caught:
        written(of_bert("lora"), to, tmp_path / "made")
    assert isinstance(caught.value, HubcliError) and caught.value.hint == f"pip install 'hubcli[{to}]'"
