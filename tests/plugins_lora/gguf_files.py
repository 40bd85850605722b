"""What the tests of GGUF share: tiny bases, and readers and writers of such files by llama.cpp's definition alone."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Expr
from hubcli.exports import Wish, export

gguf = pytest.importorskip("gguf")
SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 64,
    "max_position_embeddings": 64, "initializer_range": 0.3, "tie_word_embeddings": False, "rms_norm_eps": 1e-6,
}  # fmt: skip
GROUPED = {"num_key_value_heads": 2}
MODELS: dict[str, tuple[Any, str, list[str]]] = {
    "llama": (tf.LlamaConfig(**SIZES, **GROUPED), "llama", ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj", "lm_head"]),
    "mistral": (tf.MistralConfig(**SIZES, **GROUPED, sliding_window=None), "llama", ["q_proj", "k_proj", "down_proj"]),
    "qwen2": (tf.Qwen2Config(**SIZES, **GROUPED), "qwen2", ["q_proj", "k_proj", "v_proj", "down_proj"]),
    "qwen3": (tf.Qwen3Config(**SIZES, **GROUPED, head_dim=128), "qwen3", ["q_proj", "k_proj", "o_proj", "up_proj"]),
    "gpt2": (tf.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=1024, vocab_size=64, initializer_range=0.3), "gpt2", ["c_attn", "c_proj", "c_fc"]),
}  # fmt: skip
# from the name of a module to llama.cpp's, spelled out here again
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down", "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
}  # fmt: skip
WHOLE = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
}  # fmt: skip


def named(path: str) -> str:
    """llama.cpp's name of a module."""
    if path in WHOLE:
        return WHOLE[path]
    _, _, layer, rest = path.split(".", 3)
    return f"blk.{layer}.{NAMES[rest]}"


def permuted(rows: np.ndarray, heads: int) -> np.ndarray:
    """Row by row: of each head, row i of the first half and row i of the second take places 2 i and 2 i + 1."""
    size = len(rows) // heads
    made = np.empty_like(rows)
    for head in range(heads):
        for i in range(size // 2):
            made[head * size + 2 * i] = rows[head * size + i]
            made[head * size + 2 * i + 1] = rows[head * size + size // 2 + i]
    return made


def base_of(family: str) -> Any:
    torch.manual_seed(0)
    return tf.AutoModelForCausalLM.from_config(MODELS[family][0]).float().eval()


def heads_of(model: Any, name: str) -> int | None:
    """How many heads' rows llama.cpp interleaves in this tensor."""
    if model.config.model_type not in ("llama", "mistral"):
        return None
    per = {"attn_q": model.config.num_attention_heads, "attn_k": model.config.num_key_value_heads}
    return per.get(name.split(".")[-2] if "." in name else name)


def tuned(base: nn.Module, folder: Path, seed: int, **options: Any) -> PeftModel:
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = get_peft_model(copy.deepcopy(base), LoraConfig(task_type="CAUSAL_LM", **options))
    for name, parameter in made.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.1)
    made.save_pretrained(folder)
    return made.eval()


def deltas(made: PeftModel) -> dict[str, np.ndarray]:
    """peft's own change of each weight, by llama.cpp's name, (out, in)."""
    found = {}
    for path, module in made.named_modules():
        if hasattr(module, "get_delta_weight"):
            delta = module.get_delta_weight("default").detach()
            own = path.removeprefix("base_model.model.")
            found[f"{named(own)}.weight"] = (delta.t() if module.fan_in_fan_out else delta).numpy()
    return found


def read(file: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(keys, change of each tensor of the base) of a LoRA file, by the definition alone."""
    reader = gguf.GGUFReader(file)
    keys = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    tensors = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    changes = {}
    for name in {name.rsplit(".", 1)[0] for name in tensors}:
        a, b = tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"]
        assert a.shape[0] == b.shape[1]
        changes[name] = (b.astype(np.float64) @ a.astype(np.float64)) * (keys["adapter.lora.alpha"] / b.shape[1])
    return keys, changes


def loaded(family: str, tmp_path: Path, *configs: dict[str, Any]) -> tuple[Adapted, list[PeftModel]]:
    base = base_of(family)
    made = [
        tuned(base, tmp_path / name, i + 1, **config)
        for i, (name, config) in enumerate(zip("ab", configs, strict=False))
    ]
    handle = adapt(base)
    for name in "ab"[: len(made)]:
        handle.load(tmp_path / name, name)
    return handle, made


def write(handle: Adapted, expr: Expr, file: Path, **options: Any) -> dict[str, Any]:
    handle.activate(expr)
    return export(handle, Wish("gguf", file, **options))


def base_file(model: Any, file: Path, changes: dict[str, np.ndarray]) -> None:
    """A model as a GGUF file of the base, each tensor with its change added as llama.cpp would add it."""
    config, arch = model.config, MODELS[model.config.model_type][1]
    writer = gguf.GGUFWriter(file, arch)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_feed_forward_length(getattr(config, "intermediate_size", 128))
    writer.add_vocab_size(config.vocab_size)
    if arch == "gpt2":
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(10000.0)
    writer.add_token_list([f"t{i}" for i in range(config.vocab_size)])
    for key, tensor in model.state_dict().items():
        path, _, leaf = key.rpartition(".")
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        name, data = f"{named(path)}.{leaf}", tensor.numpy()
        if arch == "gpt2" and path.rpartition(".")[2].startswith("c_") and leaf == "weight":
            data = data.T
        heads = heads_of(model, name)
        data = permuted(data, heads) if heads else data
        writer.add_tensor(name, np.ascontiguousarray(data + changes.get(name, 0), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def answers(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits  # type: ignore[no-any-return]
