"""Tiny random models, one of each kind: an encoder, a decoder, one with few biases, an encoder-decoder, images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

VOCABULARY, LENGTH = 60, 32
_TEXT = {"vocab_size": VOCABULARY, "initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_PLAIN = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}


def _bert() -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(BertConfig(max_position_embeddings=LENGTH, **_PLAIN, **_TEXT))


def _gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=4, n_positions=LENGTH, **_TEXT))


def _llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, max_position_embeddings=LENGTH, **_PLAIN, **_TEXT))


def _t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}
    return T5ForConditionalGeneration(T5Config(vocab_size=VOCABULARY, decoder_start_token_id=0, **sizes))


def _vit() -> Any:
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, initializer_range=0.3, **_PLAIN))


TINY: dict[str, Callable[[], nn.Module]] = {"bert": _bert, "gpt2": _gpt2, "llama": _llama, "t5": _t5, "vit": _vit}


def tiny(family: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    """A random model of a family of `TINY`, width 16, 2 layers, 4 heads, in eval mode; the same for the same seed."""
    torch.manual_seed(seed)
    return TINY[family]().to(dtype).eval()


def inputs_of(family: str, rows: int = 3, length: int = 7, seed: int = 5) -> dict[str, Tensor]:
    """Random inputs of `rows` rows; for texts the last row ends in two positions of padding."""
    torch.manual_seed(seed)
    if family == "vit":
        return {"pixel_values": torch.randn(rows, 3, 8, 8, dtype=torch.float64)}
    ids = torch.randint(3, VOCABULARY, (rows, length))
    mask = torch.ones_like(ids)
    mask[-1, -2:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if family == "t5":
        inputs["decoder_input_ids"] = torch.randint(3, VOCABULARY, (rows, 4))
    return inputs


def output(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """The logits, without gradients; images are given in the model's dtype."""
    dtype = next(model.parameters()).dtype
    given = {key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs.items()}
    with torch.no_grad():
        found: Any = model(**given).logits
    assert isinstance(found, Tensor)
    return found


def apart(one: Tensor, other: Tensor) -> float:
    """The largest absolute difference, in float64."""
    return (one.double() - other.double()).abs().max().item()
