"""What the tests of fuse share: a model's state to the bit, its hooks, adapters of several methods on it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hubcli.adapted import Adapted, adapt
from hubcli.testing import tiny


def state(model: nn.Module) -> dict[str, tuple[int, bool, Tensor]]:
    """Every parameter and buffer: which object, whether it trains, its bits."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: (id(t), t.requires_grad, t.detach().clone()) for name, t in tensors}


def assert_same(before: dict[str, tuple[int, bool, Tensor]], model: nn.Module) -> None:
    now = state(model)
    assert list(now) == list(before)
    for name, (number, flag, bits) in before.items():
        assert now[name][:2] == (number, flag) and torch.equal(now[name][2], bits), name


def hooks(model: nn.Module) -> list[str]:
    return [
        name for name, m in model.named_modules() if m._forward_hooks or m._forward_pre_hooks or "forward" in m.__dict__
    ]


def mixture(family: str, *more: tuple[str, dict[str, Any]]) -> Adapted:
    """Frozen random adapters a, b, … of several methods and configs on one tiny model."""
    handle = adapt(tiny(family))
    for seed, (name, (method, config)) in enumerate(zip("abcdef", more, strict=False), 1):
        torch.manual_seed(seed)
        handle.add(method, name, config, head=None)
        with torch.no_grad():
            for parameter in handle.trainable(name):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    handle.trainable([])
    return handle


LORA = {"r": 3, "target_modules": ["query", "value", "dense"]}
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("lora", LORA),
    ("lora", {**LORA, "use_dora": True}),
    ("bitfit", {}),
    ("lora", {**LORA, "lora_bias": True, "r": 2}),
]
