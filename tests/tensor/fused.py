"""What the tests of fuse and of Fuse share: a model's state to the bit, its hooks, adapters of several methods on it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hubcli.adapted import Adapted, adapt
from hubcli.testing import tiny

from .frozen import Given, add_frozen, frozen


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


def mixture(family: str, *more: Given) -> Adapted:
    """Frozen random adapters a, b, … of several methods and configs on one tiny model."""
    return frozen(tiny(family), *more)


LORA = {"r": 3, "target_modules": ["query", "value", "dense"]}
KINDS: list[Given] = [
    ("lora", LORA),
    ("lora", {**LORA, "use_dora": True}),
    ("bitfit", {}),
    ("lora", {**LORA, "lora_bias": True, "r": 2}),
]

CHILDREN: dict[str, Given] = {
    "a": ("bottleneck", {"reduction_factor": 4}),
    "b": ("bottleneck", {"reduction_factor": 8}),
    "n": ("bottleneck", {"reduction_factor": 4}),
    "c": ("bottleneck", {"variant": "houlsby", "reduction_factor": 4}),
    "p": ("bottleneck", {"variant": "parallel", "reduction_factor": 4}),
    "l": ("lora", {"r": 2, "target_modules": r".*(dense|c_proj|c_attn|o_proj|down_proj|wo|q)"}),
    "s": ("bitfit", {}),
}


def lab(family: str = "bert", names: str = "abclps", dtype: torch.dtype = torch.float64, heads: str = "") -> Adapted:
    """A tiny model with the children of these names."""
    handle = adapt(tiny(family, dtype))
    for seed, name in enumerate(names):
        if CHILDREN[name][0] != "bitfit" or family in ("bert", "gpt2", "vit"):
            method, config = CHILDREN[name]
            add_frozen(handle, method, name, config, seed, "auto" if name in heads else None)
    return handle
