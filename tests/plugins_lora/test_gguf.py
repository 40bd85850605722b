"""LoRAs as GGUF, by llama.cpp's definition: alpha / r · B A is added to the base's tensor of the same name.

The reader here is the tests' own, and the base's GGUF files are read back by transformers: it puts a Llama's rows back in
order by code of its own, so a LoRA whose rows stand otherwise gives other logits.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, BatchSplit, Expr, Parallel, Stack
from hubcli.errors import AdapterError, HubcliError, UnsupportedError
from hubcli.exports import Wish, export
from tests.plugins_lora.gguf_files import (
    MODELS,
    answers,
    base_file,
    base_of,
    deltas,
    heads_of,
    loaded,
    permuted,
    read,
    write,
)

gguf = pytest.importorskip("gguf")
pytestmark = pytest.mark.filterwarnings("ignore")


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
