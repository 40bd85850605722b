"""AdapterHub's prefix folders, loaded as they are, against the outputs that AdapterHub's library gave."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file

from hubcli.adapted import adapt
from tests.tensor.models import apart

pytestmark = pytest.mark.filterwarnings("ignore")
GOLDENS = Path(os.environ.get("HUBCLI_GOLDENS") or Path(__file__).parents[1] / "fixtures" / "adapterhub")
MODELS = {"bert": tf.BertModel, "distilbert": tf.DistilBertModel}


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("golden", ["prefix_tuning", "prefix_tuning_b", "prefix_tuning_flat"])
@pytest.mark.parametrize("family", [family for family in MODELS if (GOLDENS / family).is_dir()])
def test_outputs_are_adapterhubs(family: str, golden: str, implementation: str) -> None:
    folder = GOLDENS / family
    model = MODELS[family].from_pretrained(folder / "base", attn_implementation=implementation).eval()
    inputs, outputs = load_file(folder / "inputs.safetensors"), load_file(folder / "outputs.safetensors")
    handle = adapt(model)
    name = handle.load(folder / "adapters" / golden)
    for expr, expected in ((None, "base"), (name, golden)):
        with torch.no_grad(), handle.using(expr):
            assert apart(model(**inputs).last_hidden_state, outputs[expected]) <= 1e-5
    assert apart(outputs[golden], outputs["base"]) > 0.01
