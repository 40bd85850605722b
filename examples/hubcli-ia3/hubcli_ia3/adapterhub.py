"""AdapterHub's (IA)³ folders: LoRA configs whose `composition_mode` is "scale", vectors as `lora_B`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hubcli.errors import ConfigKeyError, WeightsError

Tree = dict[str, dict[str, Tensor]]
TABLE = {"ia3_l": "loras.*.lora_B"}
# The only values that an (IA)³ has; where it stands the tensors say themselves.
ONLY: dict[str, tuple[Any, ...]] = {
    "architecture": ("lora",),
    "composition_mode": ("scale",),
    "r": (1,),
    "dropout": (0, 0.0, None),
    **dict.fromkeys(("use_dora", "use_gating"), (False, None)),
    **dict.fromkeys(("vera_d", "vera_b"), (None,)),
}
WITHOUT_EFFECT = {
    *("selfattn_lora", "intermediate_lora", "output_lora", "attn_matrices", "leave_out", "dtype", "alpha"),
    *("init_weights", "init_weights_seed", "version"),
}
FUSED = ("c_attn",)  # query, key and value in one module, side by side


def translated(config: dict[str, Any], tensors: Tree) -> tuple[dict[str, Any], Tree]:
    """(peft's config, tensors): everything AdapterHub scales is an output.

    Raises:
        ConfigKeyError: a key that means something else. WeightsError: a vector that does not fit the config.
    """
    for key, value in config.items():
        if value not in ONLY.get(key, (value,)) or key not in (*ONLY, *WITHOUT_EFFECT):
            raise ConfigKeyError(f"{key}: {value!r:.60} is not supported in AdapterHub's config of an (IA)³")
    alpha = config.get("alpha", 1)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise ConfigKeyError(f"alpha: expected a number, found {alpha!r:.60}")
    chosen = [matrix in (config.get("attn_matrices") or ()) for matrix in "qkv"]
    made = {
        path: {name: _widened(path, vector * alpha, chosen) for name, vector in group.items()}
        for path, group in tensors.items()
    }
    return {"target_modules": sorted(made), "feedforward_modules": []}, made


def _widened(path: str, vector: Tensor, chosen: list[bool]) -> Tensor:
    """Ones where a fused projection is not scaled."""
    if not path.endswith(FUSED):
        return vector
    if not any(chosen) or vector.shape[0] % sum(chosen):
        raise WeightsError(f"{path}: expected as many numbers for each of the config's q, k and v, found {len(vector)}")
    parts = iter(vector.chunk(sum(chosen)))
    width = vector.shape[0] // sum(chosen)
    return torch.cat([next(parts) if wanted else vector.new_ones(width, *vector.shape[1:]) for wanted in chosen])
