"""LoRAs as GGUF, by llama.cpp's definition: alpha / r · B A is added to the base's tensor of the same name.

The reader here is the tests' own, and the base's GGUF files are read back by transformers: it puts a Llama's rows back in
order by code of its own, so a LoRA whose rows stand otherwise gives other logits.
"""

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
from hubcli.composition import Average, BatchSplit, Expr, Parallel, Stack
from hubcli.errors import AdapterError, HubcliError, UnsupportedError
from hubcli.exports import Wish, export

gguf = pytest.importorskip("gguf")
pytestmark = pytest.mark.filterwarnings("ignore")
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


@pytest.mark.parametrize("family", MODELS)
def test_the_change_is_pefts(family: str, tmp_path: Path) -> None:
    handle, (made,) = loaded(family, tmp_path, {"r": 4, "lora_alpha": 6, "target_modules": MODELS[family][2]})
    report = write(handle, "a", tmp_path / "lora.gguf")
    keys, found = read(tmp_path / "lora.gguf")
    assert keys == {
        "general.architecture": MODELS[family][1], "general.type": "adapter", "adapter.type": "lora",
        "adapter.lora.alpha": 6.0, "general.name": "a",
    }  # fmt: skip
    expected = deltas(made)
    assert set(found) == set(expected) and report["tensors"] == len(expected) and report["difference"] == 0.0
    for name, delta in expected.items():
        heads = heads_of(handle.model, name)
        assert np.abs(found[name] - (permuted(delta, heads) if heads else delta)).max() <= 1e-6
        if heads:
            assert np.abs(found[name] - delta).max() > 1e-3, "the rows stand in the old order"


def test_a_single_lora_keeps_its_numbers_to_the_bit(tmp_path: Path) -> None:
    handle, _ = loaded("qwen2", tmp_path, {"r": 4, "lora_alpha": 7, "target_modules": ["down_proj"]})
    write(handle, "a", tmp_path / "lora.gguf")
    tensors = {t.name: t.data for t in gguf.GGUFReader(tmp_path / "lora.gguf").tensors}
    own = next(t for s, t in handle.engine.adapters["a"].sites.items() if ".1." in s.path)
    for half in ("a", "b"):
        assert np.array_equal(
            tensors[f"blk.1.ffn_down.weight.lora_{half}"], own[f"lora_{half.upper()}"].detach().numpy()
        )


FOLDED: dict[str, tuple[Expr, list[dict[str, Any]], list[float]]] = {
    "rslora": ("a", [{"r": 4, "lora_alpha": 6, "use_rslora": True}], [1.0]),
    "patterns": ("a", [{"r": 4, "lora_alpha": 6, "rank_pattern": {"k_proj": 2}, "alpha_pattern": {"layers.1.self_attn.q_proj": 9}}], [1.0]),
    "alpha 0": ("a", [{"r": 4, "lora_alpha": 0}], [1.0]),
    "stack": (Stack("a", "b"), [{"r": 4, "lora_alpha": 6}, {"r": 3, "lora_alpha": 5, "use_rslora": True}], [1.0, 1.0]),
    "average": (Average("a", Stack("b", None), weights=[0.7, -1.3]), [{"r": 4}, {"r": 3, "lora_alpha": 5}], [0.7, -1.3]),
    "other modules": (Stack("a", "b"), [{"r": 4}, {"r": 3, "target_modules": ["k_proj", "up_proj"]}], [1.0, 1.0]),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDED)
def test_one_alpha_says_it_all(case: str, tmp_path: Path) -> None:
    expr, configs, weights = FOLDED[case]
    handle, made = loaded(
        "llama", tmp_path, *({"target_modules": ["q_proj", "k_proj"], **config} for config in configs)
    )
    write(handle, expr, tmp_path / "lora.gguf")
    _, found = read(tmp_path / "lora.gguf")
    expected: dict[str, np.ndarray] = {}
    for weight, one in zip(weights, made, strict=True):
        for name, delta in deltas(one).items():
            expected[name] = expected.get(name, 0) + weight * delta
    assert set(found) == set(expected)
    for name, delta in expected.items():
        heads = heads_of(handle.model, name)
        assert np.abs(found[name] - (permuted(delta, heads) if heads else delta)).max() <= 1e-6, name


@pytest.mark.parametrize(("dtype", "kind", "limit"), [("float16", "F16", 1e-3), ("bfloat16", "BF16", 1e-2)])
def test_shorter_numbers(dtype: str, kind: str, limit: float, tmp_path: Path) -> None:
    handle, (made,) = loaded("llama", tmp_path, {"r": 4, "target_modules": ["v_proj"]})
    report = write(handle, "a", tmp_path / "lora.gguf", dtype=dtype)
    assert {t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "lora.gguf").tensors} == {kind}
    _, found = read(tmp_path / "lora.gguf")
    worst = max(np.abs(found[name] - delta).max() for name, delta in deltas(made).items())
    assert 0 < worst <= limit and report["difference"] == pytest.approx(worst, rel=1e-3)


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


@pytest.mark.parametrize("family", [family for family in MODELS if family != "mistral"])
def test_transformers_reads_the_base_with_it_as_hubcli_runs_it(family: str, tmp_path: Path) -> None:
    """A Mistral is a Llama in GGUF, and is read as one: its file is compared above."""
    config = {"r": 4, "lora_alpha": 16, "target_modules": MODELS[family][2]}
    handle, _ = loaded(family, tmp_path, config, {**config, "r": 2})
    write(handle, Stack("a", "b"), tmp_path / "lora.gguf")
    _, changes = read(tmp_path / "lora.gguf")
    ids = torch.randint(3, 64, (2, 9), generator=torch.Generator().manual_seed(3))
    for expr, added in ((None, {}), (Stack("a", "b"), changes)):
        base_file(handle.model, tmp_path / "model.gguf", added)
        plain = tf.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32).eval()
        with handle.using(expr):
            expected = answers(handle.model, ids)
        assert (answers(plain, ids) - expected).abs().max() <= 1e-4 * expected.abs().max()
    with handle.using(None):
        assert (answers(handle.model, ids) - expected).abs().max() > 0.1


def bert() -> Any:
    config = tf.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=60
    )
    return tf.BertForSequenceClassification(config).eval()


REFUSED: dict[str, tuple[str, dict[str, Any], Expr, str]] = {
    "dora": ("lora", {"target_modules": ["q_proj"], "use_dora": True}, "a", "can't hold DoRA"),
    "lora_bias": ("lora", {"target_modules": ["q_proj"], "lora_bias": True}, "a", "a LoRA with a bias"),
    "embedding": ("lora", {"target_modules": ["embed_tokens"]}, "a", "model.embed_tokens: gguf holds LoRAs of linear modules"),
    "other method": ("bottleneck", {"mh_adapter": False, "output_adapter": True, "reduction_factor": 4, "non_linearity": "relu", "original_ln_before": False}, "a", "'a' is a bottleneck"),
    "rows of a batch": ("lora", {"target_modules": ["q_proj"]}, BatchSplit("a", None, sizes=[1, 1]), "is no single adapter"),
    "parallel": ("lora", {"target_modules": ["q_proj"]}, Parallel("a", None), "is no single adapter"),
    "nothing": ("lora", {"target_modules": ["q_proj"]}, None, "no adapter in it"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_llama_cpp_has_no_words_for(case: str, tmp_path: Path) -> None:
    method, config, expr, says = REFUSED[case]
    handle = adapt(base_of("llama"))
    handle.add(method, "a", config)
    handle.trainable([])
    with pytest.raises(UnsupportedError, match=says):
        write(handle, expr, tmp_path / "lora.gguf")
    assert list(tmp_path.iterdir()) == []


def test_heads_other_models_tied_outputs_rows_and_dtypes(tmp_path: Path) -> None:
    def says(text: str, handle: Adapted, error: type[HubcliError] = UnsupportedError, **options: Any) -> None:
        with pytest.raises(error, match=text):
            export(handle, Wish("gguf", tmp_path / "lora.gguf", **options))
        assert list(tmp_path.iterdir()) == []

    handle = adapt(bert())
    handle.add("lora", "headed", {"target_modules": ["query"]})
    handle.add("lora", "bare", {"target_modules": ["query"]}, head=None)
    handle.trainable([])
    handle.activate("headed")
    says("has a head \\(classifier\\)", handle)
    handle.activate("bare")
    says("type 'bert' .* supported: llama, mistral, qwen2, qwen3, gpt2", handle)
    says("dtype 'int8'", handle, dtype="int8")
    handle.activate(rows=["bare", None])
    says("rows can't be written", handle)
    tied = copy.deepcopy(MODELS["qwen2"][0])
    tied.tie_word_embeddings = True
    handle = adapt(tf.AutoModelForCausalLM.from_config(tied).eval())
    handle.add("lora", "a", {"target_modules": ["lm_head"]}, head=None)
    handle.trainable([])
    handle.activate("a")
    says("lm_head: .*one tensor with the embedding", handle)


def test_a_file_that_says_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hubcli_lora import gguf as own

    handle, _ = loaded("llama", tmp_path, {"r": 4, "target_modules": ["q_proj"]})
    monkeypatch.setattr(own, "interleaved", lambda rows, heads: rows)
    with pytest.raises(AdapterError, match="it was not kept"):
        write(handle, "a", tmp_path / "lora.gguf")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
