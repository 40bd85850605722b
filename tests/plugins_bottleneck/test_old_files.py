"""Folders as AdapterHub's library wrote them before version 2, as its index still lists them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file

from hubcli.adapted import adapt
from hubcli.errors import WeightsError
from hubcli.formats import adapterhub
from hubcli.formats.pickled import weights_of
from tests.plugins_bottleneck.test_goldens import GOLDENS
from tests.tensor.models import apart

pytestmark = pytest.mark.filterwarnings("ignore")
INVERTIBLE = {"block_type": "nice", "non_linearity": "relu", "reduction_factor": 2}


def old(golden: str, folder: Path, kind: str, **tensors: torch.Tensor) -> Path:
    """A golden folder under the old names: containers by place and kind, a config with a nested invertible adapter, no version."""
    source = GOLDENS / "bert" / "adapters" / golden
    _, found, _ = weights_of(source, adapterhub.WEIGHTS, adapterhub.BIN)
    envelope = json.loads((source / adapterhub.CONFIG).read_bytes())
    renamed = {
        key.replace("attention.output.adapters.", f"attention.output.attention_{kind}_adapters.").replace(
            ".output.adapters.", f".output.layer_{kind}_adapters."
        ): tensor
        for key, tensor in found.items()
    }
    assert not any(".adapters." in key for key in renamed)
    document: dict[str, Any] = {key: value for key, value in envelope.items() if key != "version"}
    document |= {"type": kind, "config": {**envelope["config"], "invertible_adapter": INVERTIBLE}}
    folder.mkdir()
    (folder / adapterhub.CONFIG).write_text(json.dumps(document))
    torch.save({**renamed, **tensors}, folder / adapterhub.BIN)
    return folder


@pytest.mark.parametrize("golden", ["seq_bn", "double_seq_bn"])
@pytest.mark.parametrize("kind", ["text_task", "text_lang"])
def test_an_old_folder_gives_the_outputs_of_the_new_one(golden: str, kind: str, tmp_path: Path) -> None:
    handle = adapt(tf.BertModel.from_pretrained(GOLDENS / "bert" / "base").eval())
    name = handle.load(old(golden, tmp_path / golden, kind))
    with torch.no_grad(), handle.using(name):
        found = handle.model(**load_file(GOLDENS / "bert" / "inputs.safetensors")).last_hidden_state
    assert apart(found, load_file(GOLDENS / "bert" / "outputs.safetensors")[golden]) <= 1e-5


def test_one_that_has_an_invertible_adapter_is_refused_by_its_tensors(tmp_path: Path) -> None:
    key = "bert.invertible_lang_adapters.seq_bn.F.0.weight"
    handle = adapt(tf.BertModel.from_pretrained(GOLDENS / "bert" / "base").eval())
    with pytest.raises(WeightsError, match=r"invertible_adapters\.seq_bn"):
        handle.load(old("seq_bn", tmp_path / "x", "text_lang", **{key: torch.zeros(8, 24)}))
    assert not handle.adapters
