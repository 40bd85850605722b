"""A prefix beside peft's, on a small random Llama."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from peft import PrefixTuningConfig, get_peft_model
from torch import nn

from benchmarks.measure import Result
from benchmarks.models import PACKAGES, forward, loaded, quiet, tokens, twin
from benchmarks.paired import contest, same, total

LENGTH, LAYERS, VOCABULARY = 32, 6, 1000
# rows × tokens, rounds for each round asked for
SHAPES = [((1, 1), 4), ((1, 64), 3), ((8, 64), 1)]


def run(rounds: int, seed: int) -> Result:
    """Measure; outputs are compared first."""
    result = Result("prefixes", rounds, seed, packages=PACKAGES)
    base = _llama()
    with tempfile.TemporaryDirectory() as folder, quiet():
        torch.manual_seed(1)
        config = PrefixTuningConfig(num_virtual_tokens=LENGTH, task_type="CAUSAL_LM")
        tuned = get_peft_model(twin(base), config).eval().requires_grad_(False)
        tuned.save_pretrained(folder)
        handle = loaded(base, {"n": Path(folder)})
    handle.activate("n")
    for shape, more in SHAPES:
        ids = tokens(*shape) % VOCABULARY
        calls = {"hubcli": forward(handle.model, ids), "peft": forward(tuned, ids), "base": forward(base, ids)}
        same("prefix", calls["hubcli"]().logits, calls["peft"]().logits)
        times = contest(calls, more * rounds, seed)
        what = f"prefix of {LENGTH}, {shape[0]}×{shape[1]}"
        result.rows.append(total(what, times, "hubcli", "peft", against="peft, total", close=True, bar=1.02))
        result.rows.append(
            total(f"{what}: beside the bare model", times, "hubcli", "base", against="bare model", close=True)
        )
    result.facts = {"layers": LAYERS}
    return result


def _llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=768, intermediate_size=2048, num_hidden_layers=LAYERS, num_attention_heads=12, vocab_size=VOCABULARY
    )
    made: nn.Module = LlamaForCausalLM(config).eval().requires_grad_(False)
    return made
