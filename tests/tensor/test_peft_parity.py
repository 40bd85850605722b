"""Every LoRA option on several families against peft itself, live."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from hubcli.adapted import adapt

from .models import FAMILIES, apart, inputs_of, logits, model_of, peft_adapter

pytestmark = pytest.mark.filterwarnings("ignore")

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 6},
    "rslora": {"r": 4, "lora_alpha": 6, "use_rslora": True},
    "dora": {"r": 4, "use_dora": True},
    "lora_bias": {"r": 4, "lora_alpha": 6, "lora_bias": True},
    "all-linear": {"r": 3, "target_modules": "all-linear"},
    "last layer": {"r": 3, "layers_to_transform": [1]},
    "exclude": {"r": 3, "exclude_modules": r".*\.1\..*"},
}


NOT_IN_PEFT = {
    ("albert", "last layer"): "ALBERT has one layer, shared",
    ("distilbert", "all-linear"): "peft wraps pre_classifier twice and fails",
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_pefts(family: str, option: str, tmp_path: Path) -> None:
    if (family, option) in NOT_IN_PEFT:
        pytest.skip(NOT_IN_PEFT[family, option])
    base, inputs = model_of(family), inputs_of(family)
    _, _, task, targets = FAMILIES[family]
    config = {"target_modules": targets, **OPTIONS[option]}
    tuned = peft_adapter(base, tmp_path, task, **config)
    keys, before = list(base.state_dict()), logits(base, inputs)
    handle = adapt(base)
    handle.load(tmp_path, "a")
    assert torch.equal(logits(base, inputs), before)
    handle.activate("a")
    assert apart(logits(base, inputs), logits(tuned, inputs)) <= 1e-10
    assert apart(logits(base, inputs), before) > 1e-3
    assert list(base.state_dict()) == keys
    handle.save("a", tmp_path / "again")
    handle.detach()
    assert torch.equal(logits(base, inputs), before)
    again = PeftModel.from_pretrained(base, tmp_path / "again", autocast_adapter_dtype=False).eval()
    assert apart(logits(again, inputs), logits(tuned, inputs)) <= 1e-10


MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "rank and alpha patterns": (
        "bert",
        {
            "r": 4,
            "target_modules": ["query", "key", "value"],
            "rank_pattern": {"layer.0.attention.self.query": 2, r"layer\.\d\.attention\.self\.value": 6},
            "alpha_pattern": {"query": 3, "^bert.encoder.layer.1.attention.self.key": 5},
        },
    ),
    "a pattern": ("bert", {"r": 4, "target_modules": r".*\.layer\.(0|1)\.attention\.self\.(?:query|key)"}),
    "embedding": ("gpt2", {"r": 4, "target_modules": ["wte", "wpe"]}),
    "embedding with DoRA": ("bert", {"r": 4, "target_modules": ["word_embeddings", "query"], "use_dora": True}),
    "tied embedding and head": ("llama", {"r": 4, "target_modules": ["embed_tokens", "lm_head"]}),
    "convolution": ("vit", {"r": 4, "target_modules": ["projection", "q_proj"]}),
    "convolution with DoRA": ("vit", {"r": 4, "target_modules": ["projection"], "use_dora": True}),
    "trained biases": ("bert", {"r": 4, "target_modules": ["query"], "bias": "lora_only"}),
    "more modules to save": (
        "bert",
        {"r": 4, "target_modules": ["query"], "modules_to_save": ["pooler", "classifier"]},
    ),
    "a classifier of several layers": ("roberta", {"r": 4, "target_modules": ["query"]}),
    "language-model head saved": ("gpt2", {"r": 4, "target_modules": ["c_attn"], "modules_to_save": ["lm_head"]}),
    "layers pattern": ("gpt2", {"r": 4, "target_modules": ["c_attn"], "layers_to_transform": 1, "layers_pattern": "h"}),
}


@pytest.mark.parametrize("case", MORE)
def test_more_options(case: str, tmp_path: Path) -> None:
    family, options = MORE[case]
    base, inputs = model_of(family), inputs_of(family)
    tuned = peft_adapter(base, tmp_path, FAMILIES[family][2], **options)
    handle = adapt(base)
    handle.load(tmp_path, "a")
    handle.activate("a")
    assert apart(logits(base, inputs), logits(tuned, inputs)) <= 1e-10
    handle.save("a", tmp_path / "again")
    handle.detach()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = PeftModel.from_pretrained(base, tmp_path / "again", autocast_adapter_dtype=False).eval()
    assert apart(logits(again, inputs), logits(tuned, inputs)) <= 1e-10


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
def test_generate_is_pefts(family: str, tmp_path: Path) -> None:
    base, inputs = model_of(family), inputs_of(family)
    inputs.pop("decoder_input_ids", None)
    tuned = peft_adapter(base, tmp_path, FAMILIES[family][2], r=4, target_modules=FAMILIES[family][3])
    expected = tuned.generate(**inputs, max_new_tokens=6, do_sample=False)
    handle = adapt(base)
    handle.load(tmp_path, "a")
    own = base.generate(**inputs, max_new_tokens=6, do_sample=False)
    handle.activate("a")
    assert torch.equal(base.generate(**inputs, max_new_tokens=6, do_sample=False), expected)
    assert torch.equal(handle.generate(**inputs, max_new_tokens=6, do_sample=False), expected)
    assert not torch.equal(own, expected)
