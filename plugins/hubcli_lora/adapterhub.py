"""AdapterHub's LoRA files as this method's own: its config's keys, and its grouped tensors for fused projections."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hubcli.errors import ConfigKeyError, WeightsError

Tree = dict[str, dict[str, Tensor]]
TABLE = {"lora_A": "loras.*.lora_A", "lora_B": "loras.*.lora_B"}
# The only values that a plain LoRA has; where it stands the tensors say themselves.
PLAIN: dict[str, tuple[Any, ...]] = {
    "composition_mode": ("add",),
    "use_dora": (False, None),
    "use_gating": (False, None),
    "vera_d": (None,),
    "vera_b": (None,),
}
WITHOUT_EFFECT = {
    *("architecture", "selfattn_lora", "intermediate_lora", "output_lora", "attn_matrices", "leave_out", "dtype"),
    *("init_weights", "init_weights_seed", "version", "r", "alpha", "dropout"),
}
SCALED = (1, 1, 0)  # before this version of adapters, alpha was saved but not applied


def translated(config: dict[str, Any], tensors: Tree) -> tuple[dict[str, Any], Tree]:
    """(peft's config, tensors).

    Raises:
        ConfigKeyError: a key that means something else than a plain LoRA. WeightsError: groups that make no sense.
    """
    for key, value in config.items():
        if (key in PLAIN and value not in PLAIN[key]) or key not in (*PLAIN, *WITHOUT_EFFECT):
            raise ConfigKeyError(f"{key}: {value!r:.60} is not supported in AdapterHub's LoRA config")
    r, alpha = config.get("r"), config.get("alpha")
    if isinstance(r, bool) or not isinstance(r, int) or r < 1 or not isinstance(alpha, int | float):
        raise ConfigKeyError(f"r, alpha: expected numbers, found {r!r:.60} and {alpha!r:.60}")
    if _version(config.get("version")) < SCALED:
        alpha = r
    chosen = [matrix in (config.get("attn_matrices") or ()) for matrix in "qkv"]
    ranks: dict[str, int] = {}
    made: Tree = {}
    for path, pair in tensors.items():
        made[path] = pair
        if set(pair) == set(TABLE) and pair["lora_A"].dim() == 2 and pair["lora_A"].shape[0] != r:
            made[path] = _ungrouped(path, pair, r, chosen)
            ranks |= {path: rank} if (rank := made[path]["lora_A"].shape[0]) != r else {}
    translated = {
        "r": r,
        "lora_alpha": alpha,
        "lora_dropout": config.get("dropout") or 0.0,
        "target_modules": sorted(made),
        "rank_pattern": ranks,
        "alpha_pattern": {path: alpha * rank / r for path, rank in ranks.items()},
    }
    return translated, made


def _version(text: Any) -> tuple[int, ...]:
    """(1, 3, 0) of "adapters.1.3.0"; of another library's or none, what needs no correction."""
    if not isinstance(text, str) or not text.startswith("adapters."):
        return SCALED
    parts = text.removeprefix("adapters.").split(".")[:3]
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in parts)


def _ungrouped(path: str, pair: dict[str, Tensor], r: int, chosen: list[bool]) -> dict[str, Tensor]:
    """q, k and v fused: each group of B's rows reads its own group of A's, so B becomes a matrix of blocks.

    Three groups that are the same A are one LoRA of the whole projection.
    """
    a, b, groups = pair["lora_A"], pair["lora_B"], sum(chosen)
    if groups < 2 or a.shape[0] != groups * r or b.shape[0] % groups or b.shape[1] != r:
        raise WeightsError(
            f"{path}: expected A with rank {r}, or with as much for each of the config's q, k and v, "
            f"found A {tuple(a.shape)} and B {tuple(b.shape)}"
        )
    if groups == len(chosen) and torch.equal(a, a[:r].repeat(groups, 1)):
        return {"lora_A": a[:r].contiguous(), "lora_B": b}
    width = b.shape[0] // groups
    wide = b.new_zeros(len(chosen) * width, a.shape[0])
    for group, at in enumerate(i for i, wanted in enumerate(chosen) if wanted):
        wide[at * width : (at + 1) * width, group * r : (group + 1) * r] = b[group * width : (group + 1) * width]
    return {"lora_A": a, "lora_B": wide}
