"""Tiny models on quantised weights: wide enough for 4-bit blocks, in float32."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from hubcli.quantised import keep_readable
from hubcli.testing.models import tiny

WIDTH = 64


def tiny_nf4(family: str, seed: int = 0) -> nn.Module:
    """A random model of a family of `TINY`, width 64, in eval mode, its linear modules but the head in NF4 (float32 else).

    Needs bitsandbytes (`pip install 'hubcli[qlora]'`).
    """
    small: Any = tiny(family)
    config = copy.deepcopy(small.config)
    config.update(
        {"hidden_size": WIDTH, "intermediate_size": WIDTH, "d_ff": WIDTH, "head_dim": WIDTH // 4, "d_kv": WIDTH // 4}
    )
    torch.manual_seed(seed)
    model: nn.Module = type(small)(config).float().eval()
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Linear | Conv1D) and path not in ("classifier", "lm_head"):
            model.set_submodule(path, _quantised(module))
    keep_readable(model.modules())
    return model


def _quantised(module: nn.Linear | Conv1D) -> nn.Module:
    """The module in NF4 with double quantisation."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    weight = (module.weight.t() if isinstance(module, Conv1D) else module.weight).detach().contiguous()
    made = Linear4bit(weight.shape[1], weight.shape[0], module.bias is not None, compute_dtype=torch.float32)
    made.weight = Params4bit(weight, quant_type="nf4", compress_statistics=True, module=made)
    if module.bias is not None:
        made.bias = nn.Parameter(module.bias.detach(), requires_grad=module.bias.requires_grad)
    quantised: nn.Module = made.to("cpu").eval()
    return quantised
