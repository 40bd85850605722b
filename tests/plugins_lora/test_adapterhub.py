"""AdapterHub's LoRA configs and tensors as peft's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hubcli_lora.adapterhub import translated

from hubcli.errors import ConfigKeyError, WeightsError

CONFIG: dict[str, Any] = {
    "architecture": "lora",
    "r": 2,
    "alpha": 6,
    "attn_matrices": ["q", "v"],
    "version": "adapters.1.3.0",
}


def test_alpha_was_not_applied_before_1_1() -> None:
    pair = {"x": {"lora_A": torch.ones(2, 4), "lora_B": torch.ones(4, 2)}}
    for version, alpha in (("adapters.1.3.0", 6), ("adapters.1.1.0", 6), ("adapters.1.0.1", 2), (None, 6)):
        assert translated({**CONFIG, "version": version}, pair)[0]["lora_alpha"] == alpha


def test_fused_projections_become_blocks() -> None:
    a, b = torch.randn(4, 5), torch.randn(6, 2)
    config, tensors = translated(CONFIG, {"c_attn": {"lora_A": a, "lora_B": b}})
    delta = tensors["c_attn"]["lora_B"] @ tensors["c_attn"]["lora_A"]
    assert torch.equal(delta, torch.cat([b[:3] @ a[:2], torch.zeros(3, 5), b[3:] @ a[2:]]))
    assert config["rank_pattern"] == {"c_attn": 4} and config["alpha_pattern"] == {"c_attn": 12}
    with pytest.raises(WeightsError, match="found A"):
        translated({**CONFIG, "attn_matrices": ["q"]}, {"c_attn": {"lora_A": a, "lora_B": b}})


@pytest.mark.parametrize(
    "key, value", [("composition_mode", "scale"), ("use_dora", True), ("use_gating", True), ("vera_d", 0.1), ("new", 1)]
)
def test_other_methods_of_the_same_architecture_are_refused_by_key(key: str, value: Any) -> None:
    with pytest.raises(ConfigKeyError, match=key):
        translated({**CONFIG, key: value}, {})
