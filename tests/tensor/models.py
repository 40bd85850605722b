"""Tiny random models of several families, and peft adapters on them with no tensor at zero."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

VOCAB = 60
COMMON = {"vocab_size": VOCAB, "initializer_range": 0.3}

FAMILIES: dict[str, tuple[type, Any, str, list[str]]] = {
    "bert": (
        tf.BertForSequenceClassification,
        tf.BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, max_position_embeddings=32, **COMMON),
        "SEQ_CLS",
        ["query", "value"],
    ),
    "roberta": (
        tf.RobertaForSequenceClassification,
        tf.RobertaConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, max_position_embeddings=34, **COMMON),
        "SEQ_CLS",
        ["query", "dense"],
    ),
    "distilbert": (
        tf.DistilBertForSequenceClassification,
        tf.DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=32, **COMMON),
        "SEQ_CLS",
        ["q_lin", "lin1"],
    ),
    "albert": (
        tf.AlbertForSequenceClassification,
        tf.AlbertConfig(embedding_size=8, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24, max_position_embeddings=32, **COMMON),
        "SEQ_CLS",
        ["query", "ffn"],
    ),
    "gpt2": (
        tf.GPT2LMHeadModel,
        tf.GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=1, eos_token_id=2, **COMMON),
        "CAUSAL_LM",
        ["c_attn", "c_proj"],
    ),
    "llama": (
        tf.LlamaForCausalLM,
        tf.LlamaConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=24, max_position_embeddings=32, bos_token_id=1, eos_token_id=2, **COMMON),
        "CAUSAL_LM",
        ["q_proj", "v_proj", "down_proj"],
    ),
    "t5": (
        tf.T5ForConditionalGeneration,
        tf.T5Config(d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, vocab_size=VOCAB, decoder_start_token_id=0),
        "SEQ_2_SEQ_LM",
        ["q", "v"],
    ),
    "vit": (
        tf.ViTForImageClassification,
        tf.ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=8, patch_size=4, initializer_range=0.3),
        "SEQ_CLS",
        ["q_proj", "v_proj"],
    ),
}  # fmt: skip


def model_of(family: str, dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any) -> nn.Module:
    """A tiny random model in eval mode."""
    made, config, _, _ = FAMILIES[family]
    config = copy.deepcopy(config)
    for key, value in changes.items():
        setattr(config, key, value)
    torch.manual_seed(seed)
    return made(config).to(dtype).eval()


def inputs_of(family: str, rows: int = 3, length: int = 7, seed: int = 5) -> dict[str, torch.Tensor]:
    """Random inputs with some padding on the right."""
    torch.manual_seed(seed)
    if family == "vit":
        return {"pixel_values": torch.randn(rows, 3, 8, 8, dtype=torch.float64)}
    ids = torch.randint(3, VOCAB, (rows, length))
    mask = torch.ones_like(ids)
    mask[-1, -2:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if family == "t5":
        inputs["decoder_input_ids"] = torch.randint(3, VOCAB, (rows, 4))
    return inputs


def peft_adapter(base: nn.Module, folder: Path, task: str, seed: int = 1, **options: Any) -> PeftModel:
    """A peft LoRA with random weights on a copy of `base`, saved to `folder`, in eval mode."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned = get_peft_model(
            copy.deepcopy(base), LoraConfig(task_type=task or None, **options), autocast_adapter_dtype=False
        )
        for name, parameter in tuned.named_parameters():
            if parameter.requires_grad and "magnitude" not in name:
                nn.init.normal_(parameter, std=0.3)
        tuned.save_pretrained(folder)
    return tuned.eval()


def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one - other).abs().max().item()
