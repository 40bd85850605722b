"""Tiny random models of the families that are tested: encoders, decoders, both, images, sounds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

VOCABULARY, LENGTH = 60, 32
_TEXT = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
_STD = {"initializer_range": 0.3}
_ENCODER = {**_TEXT, **_SIZES, **_STD, "max_position_embeddings": LENGTH}
_GROUPED = {**_ENCODER, "num_key_value_heads": 2, "head_dim": 4}
_BOTH = {
    **_TEXT, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "init_std": 0.3, "decoder_start_token_id": 1, "forced_eos_token_id": None,
}  # fmt: skip
_T5 = {"vocab_size": VOCABULARY, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}
_WHISPER = {"num_mel_bins": 4, "max_source_positions": 5, "max_target_positions": LENGTH, "suppress_tokens": None}
_DEBERTA = {
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "position_buckets": 4,
    "norm_rel_ebd": "layer_norm",
}

# family -> (model class, config class, config), as transformers calls them
TINY: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertForSequenceClassification", "BertConfig", _ENCODER),
    "roberta": ("RobertaForSequenceClassification", "RobertaConfig", _ENCODER),
    "distilbert": (
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        {**_TEXT, **_STD, "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24, "max_position_embeddings": LENGTH},
    ),
    "electra": ("ElectraForSequenceClassification", "ElectraConfig", {**_ENCODER, "embedding_size": 8}),
    "albert": ("AlbertForSequenceClassification", "AlbertConfig", {**_ENCODER, "embedding_size": 8}),
    "mpnet": ("MPNetForSequenceClassification", "MPNetConfig", _ENCODER),
    "deberta-v2": ("DebertaV2ForSequenceClassification", "DebertaV2Config", {**_ENCODER, **_DEBERTA}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {**_TEXT, **_STD, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": LENGTH}),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", {**_ENCODER, "rotary_pct": 0.5}),
    "llama": ("LlamaForCausalLM", "LlamaConfig", _GROUPED),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", _GROUPED),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", {**_GROUPED, "sliding_window": 4, "query_pre_attn_scalar": 4}),
    "mistral": ("MistralForCausalLM", "MistralConfig", {**_GROUPED, "sliding_window": None}),
    "t5": ("T5ForConditionalGeneration", "T5Config", {**_T5, "decoder_start_token_id": 0}),
    "bart": ("BartForConditionalGeneration", "BartConfig", {**_BOTH, "max_position_embeddings": LENGTH}),
    "vit": ("ViTForImageClassification", "ViTConfig", {**_SIZES, **_STD, "image_size": 8, "patch_size": 4}),
    "clip": (
        "CLIPModel",
        "CLIPConfig",
        {
            "text_config": {**_ENCODER, "projection_dim": 8},
            "vision_config": {**_SIZES, **_STD, "image_size": 8, "patch_size": 4, "projection_dim": 8},
            "projection_dim": 8,
        },
    ),
    "whisper": ("WhisperForConditionalGeneration", "WhisperConfig", {**_BOTH, **_WHISPER}),
}  # fmt: skip


def tiny(family: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    """A random model of a family of `TINY`, width 16, 2 layers, 4 heads, in eval mode; the same for the same seed."""
    import transformers

    model, config, settings = TINY[family]
    torch.manual_seed(seed)
    made: nn.Module = getattr(transformers, model)(getattr(transformers, config)(**copy.deepcopy(settings)))
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() == 1:  # biases and norms start at 0 and 1, where much goes unseen
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return made.to(dtype).eval()


def inputs_of(family: str, rows: int = 3, length: int = 7, seed: int = 5) -> dict[str, Tensor]:
    """Random inputs of `rows` rows; for texts the last row ends in two positions of padding."""
    torch.manual_seed(seed)
    inputs: dict[str, Tensor] = {}
    if family in ("vit", "clip"):
        inputs["pixel_values"] = torch.randn(rows, 3, 8, 8, dtype=torch.float64)
    if family == "whisper":
        inputs["input_features"] = torch.randn(rows, 4, 10, dtype=torch.float64)
    if family not in ("vit", "whisper"):
        inputs["input_ids"] = torch.randint(3, VOCABULARY, (rows, length))
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        inputs["attention_mask"][-1, -2:] = 0
    if family in ("t5", "bart", "whisper"):
        inputs["decoder_input_ids"] = torch.randint(3, VOCABULARY, (rows, 4))
    return inputs


class _Finer(TorchFunctionMode):
    """Norms and softmaxes that ask for float32 would hide, or make, differences in float64: there they stay as they are."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Leave out the way from float64 down to float32."""
        kwargs = dict(kwargs or {})
        first = args[0] if args else None
        if isinstance(first, Tensor) and first.dtype == torch.float64:
            if func is Tensor.float or (func is Tensor.to and torch.float32 in (*args[1:], kwargs.get("dtype"))):
                return first
            if kwargs.get("dtype") is torch.float32:
                kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)


def output(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """The logits, or both embeddings where there are none, without gradients; images are given in the model's dtype."""
    dtype = next(model.parameters()).dtype
    given = {key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs.items()}
    with torch.no_grad(), _Finer():
        out: Any = model(**given)
    logits = getattr(out, "logits", None)
    found = torch.cat([out.text_embeds, out.image_embeds], -1) if logits is None else logits
    assert isinstance(found, Tensor)
    return found


def apart(one: Tensor, other: Tensor) -> float:
    """The largest absolute difference, in float64."""
    return (one.double() - other.double()).abs().max().item()
