"""Fuse: AdapterHub's goldens, the maths written a second time, training, folders, heads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, Fuse

from .models import apart

pytestmark = pytest.mark.filterwarnings("ignore")
GOLDENS = Path(os.environ.get("HUBCLI_GOLDENS") or Path(__file__).parents[1] / "fixtures" / "adapterhub")
MODELS = {"bert": tf.BertModel, "distilbert": tf.DistilBertModel, "gpt2": tf.GPT2Model}
FUSED = "seq_bn,seq_bn_b"


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
