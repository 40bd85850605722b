"""AdapterHub's own folders, loaded as they are, against the outputs that AdapterHub's library gave."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file

from hubcli.adapted import Adapted, adapt
from hubcli.composition import BatchSplit, Expr, Parallel, Split, Stack
from tests.tensor.models import apart

pytestmark = pytest.mark.filterwarnings("ignore")
GOLDENS = Path(os.environ.get("HUBCLI_GOLDENS") or Path(__file__).parents[1] / "fixtures" / "adapterhub")
MODELS = {"bert": tf.BertModel, "distilbert": tf.DistilBertModel, "gpt2": tf.GPT2Model}
FAMILIES = [family for family in MODELS if (GOLDENS / family).is_dir()]
ADAPTERS = ["seq_bn", "seq_bn_b", "seq_bn_r16_gelu", "double_seq_bn", "double_seq_bn_b", "par_bn"]
LORAS = ["lora", "lora_b", "lora_qkv_out"]
EXPRESSIONS: dict[str, Expr] = {
    "base": None,
    **{name: name for name in ADAPTERS},
    "stack(seq_bn,seq_bn_b)": Stack("seq_bn", "seq_bn_b"),
    "stack(double_seq_bn,double_seq_bn_b)": Stack("double_seq_bn", "double_seq_bn_b"),
    "split(seq_bn:5,seq_bn_b:6)": Split("seq_bn", "seq_bn_b", sizes=[5, 6]),
    "batch_split(seq_bn:1,seq_bn_b:3)": BatchSplit("seq_bn", "seq_bn_b", sizes=[1, 3]),
    "parallel(seq_bn,seq_bn_b)": Parallel("seq_bn", "seq_bn_b"),
}


@pytest.fixture(scope="module", params=FAMILIES)
def lab(request: Any, tmp_path_factory: Any) -> Any:
    """(handle, inputs, outputs) of a family with every adapter loaded."""
    folder = GOLDENS / request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBCLI_HOME", str(tmp_path_factory.mktemp("home")))
        handle = adapt(MODELS[request.param].from_pretrained(folder / "base").eval())
        for name in ADAPTERS:
            handle.load(folder / "adapters" / name)
        yield handle, load_file(folder / "inputs.safetensors"), load_file(folder / "outputs.safetensors")


def hidden(handle: Adapted, inputs: dict[str, torch.Tensor], expr: Expr = None, rows: Any = None) -> torch.Tensor:
    with torch.no_grad(), handle.using(expr, rows):
        return handle.model(**inputs).last_hidden_state  # type: ignore[no-any-return]


@pytest.mark.parametrize("golden", LORAS)
def test_loras_are_adapterhubs(lab: Any, golden: str) -> None:
    handle, inputs, outputs = lab
    folder = GOLDENS / handle.structure.architecture.removesuffix("Model").lower() / "adapters" / golden
    if not folder.is_dir():
        pytest.skip(f"{golden} is not among these goldens")
    name = handle.load(folder)
    assert apart(hidden(handle, inputs, name), outputs[golden]) <= 1e-5
    assert apart(outputs[golden], outputs["base"]) > 0.1


@pytest.mark.parametrize("golden", EXPRESSIONS)
def test_outputs_are_adapterhubs(lab: Any, golden: str) -> None:
    handle, inputs, outputs = lab
    assert apart(hidden(handle, inputs, EXPRESSIONS[golden]), outputs[golden]) <= 1e-5
    if golden != "base":
        assert apart(outputs[golden][:4], outputs["base"]) > 0.1


def test_rows_are_each_adapters_own(lab: Any) -> None:
    handle, inputs, outputs = lab
    found = hidden(handle, inputs, rows=["par_bn", "double_seq_bn", None, "seq_bn"])
    for i, golden in enumerate(["par_bn", "double_seq_bn", "base", "seq_bn"]):
        assert apart(found[i], outputs[golden][i]) <= 1e-5


def test_saved_again_as_adapterhubs_and_as_hubclis(lab: Any, tmp_path: Path) -> None:
    handle, inputs, outputs = lab
    for name in ("par_bn", "double_seq_bn", "seq_bn"):
        for format in ("adapterhub", "hubcli"):
            handle.save(name, tmp_path / f"{name}_{format}", format=format)
            again = handle.load(tmp_path / f"{name}_{format}")
            assert torch.equal(hidden(handle, inputs, again), hidden(handle, inputs, name))
            handle.detach(again)
    assert apart(hidden(handle, inputs, "par_bn"), outputs["par_bn"]) <= 1e-5
