"""Adapters whose training added tokens to the base: refused by name with both sizes, and nothing of them stays."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from hubcli.adapted import adapt
from hubcli.errors import BaseMismatchError, HubcliError, UnsupportedError

from .models import VOCAB, inputs_of, logits, model_of

pytestmark = pytest.mark.filterwarnings("ignore")
CASES: dict[str, tuple[dict[str, Any], type[HubcliError]]] = {
    "saved whole": (
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
        UnsupportedError,
    ),
    "saved with the adapter": ({"target_modules": ["q_proj"]}, UnsupportedError),
    "adapted": ({"target_modules": ["q_proj", "embed_tokens"]}, BaseMismatchError),
}


@pytest.mark.parametrize("case", CASES)
def test_an_adapter_with_added_tokens_is_refused_with_both_sizes(case: str, tmp_path: Path) -> None:
    options, error = CASES[case]
    base: Any = model_of("llama", torch.float32)
    longer = copy.deepcopy(base)
    longer.resize_token_embeddings(VOCAB + 2)
    tuned = get_peft_model(longer, LoraConfig(r=2, task_type="CAUSAL_LM", **options))
    tuned.save_pretrained(tmp_path, save_embedding_layers=True)
    before, answer = dict(base.state_dict()), logits(base, inputs_of("llama"))
    handle = adapt(base)
    with pytest.raises(error, match=rf"{VOCAB + 2}.*{VOCAB}|{VOCAB}.*{VOCAB + 2}"):
        handle.load(tmp_path, "longer")
    assert not handle.adapters and torch.equal(logits(base, inputs_of("llama")), answer)
    assert all(torch.equal(tensor, before[key]) for key, tensor in base.state_dict().items())
    assert not any(module._forward_hooks for module in base.modules())
