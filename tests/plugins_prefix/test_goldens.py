"""AdapterHub's prefix folders, loaded as they are, against the outputs that AdapterHub's library gave."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file

from hubcli.adapted import adapt
from hubcli.errors import UnsupportedError
from hubcli.testing import inputs_of, output, tiny
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


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_a_prefix_that_was_trained_here_as_adapterhubs(family: str, flat: bool, tmp_path: Path) -> None:
    model, inputs = tiny(family), inputs_of(family)
    handle = adapt(model)
    handle.add("prefix", "a", {"prefix_length": 3, "bottleneck_size": 5, "flat": flat}, head=None)
    handle.save("a", tmp_path / "a", format="adapterhub")
    again = handle.load(tmp_path / "a", "b")
    with handle.using("a"):
        expected = output(model, inputs)
    with handle.using(again):
        assert apart(output(model, inputs), expected) == 0
    keys = load_file(tmp_path / "a" / "adapter.safetensors").keys()
    copies = {key.partition("prefix_tunings.")[0] for key in keys}
    assert "prefix_tuning." in copies and len(copies) == 1 + len(handle.engine.adapters["a"].sites)


@pytest.mark.parametrize(
    "family, config, match",
    [
        ("bert", {"position_shift": True, "flat": True}, "position_shift"),
        ("bert", {"leave_out": [0], "flat": True}, "leave_out"),
        ("distilbert", {"flat": True}, "mask_of_ones"),
        ("llama", {"bottleneck_size": 5}, "bottleneck_size"),
        ("vit", {"flat": True}, "names its attention modules"),
    ],
)
def test_what_adapterhubs_prefixes_cannot_say(family: str, config: dict[str, object], match: str) -> None:
    handle = adapt(tiny(family) if family not in ("distilbert", "vit") else OTHERS[family]())
    handle.add("prefix", "a", config, head=None)
    with pytest.raises(UnsupportedError, match=match):
        handle.save("a", Path("never"), format="adapterhub")


SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 8}
OTHERS = {
    "distilbert": lambda: tf.DistilBertModel(tf.DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=8)),
    "vit": lambda: tf.ViTModel(tf.ViTConfig(**SIZES, image_size=8, patch_size=4)),
}
