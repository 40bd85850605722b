"""A LoRA as AdapterHub's files keep it: one rank and scale, at all layers alike, at the projections that its library adapts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hubcli.errors import UnsupportedError
from hubcli.method import Site
from hubcli_lora.settings import LoraSettings

if TYPE_CHECKING:
    from hubcli.families import Structure

Tree = dict[str, dict[str, Tensor]]
FUSED, INTERMEDIATE, OUTPUT = "qkv", "intermediate", "output"
# layout -> what the library's config calls a module of a layer -> that module
NAMES: dict[str, dict[str, str]] = {
    "bert": {
        "q": "attention.self.query",
        "k": "attention.self.key",
        "v": "attention.self.value",
        INTERMEDIATE: "intermediate.dense",
        OUTPUT: "output.dense",
    },
    "albert": {
        "q": "attention.query",
        "k": "attention.key",
        "v": "attention.value",
        INTERMEDIATE: "ffn",
        OUTPUT: "ffn_output",
    },
    "distilbert": {
        "q": "attention.q_lin",
        "k": "attention.k_lin",
        "v": "attention.v_lin",
        INTERMEDIATE: "ffn.lin1",
        OUTPUT: "ffn.lin2",
    },
    "gpt2": {FUSED: "attn.c_attn", INTERMEDIATE: "mlp.c_fc", OUTPUT: "mlp.c_proj"},
    "llama": {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj"},
}
# adapters 1.3.0 wraps these two in each other's place in the families that it has classes for
SWAPPED = {INTERMEDIATE: "mlp.down_proj", OUTPUT: "mlp.up_proj"}
WITH_CLASSES = ("llama", "mistral")
PREFERRED = {1: ((0,), (1,), (2,)), 2: ((0, 2), (0, 1), (1, 2)), 3: ((0, 1, 2),)}  # of q, k, v
HINT = "hubcli's own format and peft's hold it"


def gathered(
    structure: Structure, settings: LoraSettings, sites: Mapping[Site, Mapping[str, Tensor]]
) -> tuple[dict[str, Any], Tree]:
    """(config, module path relative to the bare model → parameter → tensor).

    Raises:
        UnsupportedError: AdapterHub's config can't say where this LoRA stands, or how it is scaled.
    """
    if settings.dora or settings.lora_bias or settings.base_bias:
        key = "use_dora" if settings.dora else "lora_bias" if settings.lora_bias else "bias"
        raise UnsupportedError(f"{key}: AdapterHub's LoRA files as hubcli writes them have none", hint=HINT)
    roles = _roles(structure, sites)
    rank, alpha = _size(settings, roles)
    leave_out = _left_out(structure, roles)
    used = {role for _, role in roles.values()}
    matrices = [matrix for matrix in "qkv" if matrix in used]
    fused = {site.path: sites[site] for site in sites if roles[site.path][1] == FUSED}
    made = {site.path: dict(sites[site]) for site in sites if site.path not in fused}
    if fused:
        chosen = _chosen(fused, rank)
        matrices = ["qkv"[at] for at in chosen]
        made |= {path: _grouped(pair, rank, chosen) for path, pair in fused.items()}
    config = {
        "architecture": "lora",
        "selfattn_lora": bool(matrices),
        "intermediate_lora": INTERMEDIATE in used,
        "output_lora": OUTPUT in used,
        "leave_out": leave_out,
        "r": rank,
        "alpha": alpha,
        "dropout": settings.dropout,
        "attn_matrices": matrices or ["q", "v"],
        "composition_mode": "add",
        "init_weights": "lora",
        **dict.fromkeys(("use_gating", "use_dora"), False),
        **dict.fromkeys(("init_weights_seed", "vera_d", "vera_b", "dtype")),
    }
    return config, {structure.relative(path): pair for path, pair in made.items()}


def _roles(structure: Structure, sites: Iterable[Site]) -> dict[str, tuple[int, str]]:
    """Module path -> (layer, what the library's config calls it)."""
    known: dict[str, tuple[int, str]] = {}
    for at, layer in enumerate(structure.transformer_layers()):
        names = dict(NAMES.get(layer.layout.name, {}))
        if layer.layout.name == "llama" and _family(structure) in WITH_CLASSES:
            names |= SWAPPED
        known |= {layer.at(name): (at, role) for role, name in names.items()}
    strange = next((site.path for site in sites if site.path not in known), None)
    if strange is not None:
        raise UnsupportedError(f"{strange}: AdapterHub's library has no LoRA there, as far as is known", hint=HINT)
    return {site.path: known[site.path] for site in sites}


def _family(structure: Structure) -> str:
    return str(getattr(getattr(structure.model, "config", None), "model_type", ""))


def _left_out(structure: Structure, roles: Mapping[str, tuple[int, str]]) -> list[int]:
    """The layers without; the others must be alike."""
    by_layer: dict[int, set[str]] = {}
    for layer, role in roles.values():
        by_layer.setdefault(layer, set()).add(role)
    if len({frozenset(found) for found in by_layer.values()}) > 1:
        shown = "; ".join(f"layer {layer}: {', '.join(sorted(found))}" for layer, found in sorted(by_layer.items()))
        raise UnsupportedError(f"AdapterHub's LoRA adapts all its layers alike, found {shown:.200}", hint=HINT)
    return [at for at in range(len(structure.transformer_layers())) if at not in by_layer]


def _size(settings: LoraSettings, roles: Mapping[str, tuple[int, str]]) -> tuple[int, float]:
    """(rank, alpha) of all sites; a fused projection has a multiple of the rank, or one LoRA for all of it."""
    ranks = {path: settings.rank(path) for path in roles}
    plain = {rank for path, rank in ranks.items() if roles[path][1] != FUSED}
    scales = {settings.scale(path) for path in roles}
    if len(plain) > 1 or max(scales) - min(scales) > 1e-12 * max(map(abs, scales)):
        key = "rank_pattern" if len(plain) > 1 else "alpha_pattern"
        raise UnsupportedError(f"{key}: AdapterHub's LoRA has one rank and one scale for all its modules", hint=HINT)
    common = min(ranks.values()) if not all(rank % settings.r == 0 for rank in ranks.values()) else settings.r
    rank = next(iter(plain), common)
    scale = next(iter(scales))
    same = rank == settings.r and math.isclose(scale, settings.alpha / rank, rel_tol=1e-12)
    alpha = settings.alpha if same else scale * rank
    return rank, int(alpha) if float(alpha).is_integer() else alpha


def _chosen(fused: Mapping[str, Mapping[str, Tensor]], rank: int) -> tuple[int, ...]:
    """Which of q, k and v the fused projections adapt: the same in all layers, told by where B is not zero."""
    groups = {pair["lora_A"].shape[0] / rank for pair in fused.values()}
    if groups == {1}:
        return (0, 1, 2)
    for chosen in PREFERRED.get(int(next(iter(groups))), ()) if len(groups) == 1 else ():
        if all(_is_of(pair["lora_B"], rank, chosen) for pair in fused.values()):
            return chosen
    raise UnsupportedError(
        f"{min(fused)}: AdapterHub keeps the LoRAs of q, k and v apart, this one mixes them in some layers", hint=HINT
    )


def _is_of(b: Tensor, rank: int, chosen: tuple[int, ...]) -> bool:
    if b.shape[0] % 3 or b.shape[1] != len(chosen) * rank:
        return False
    left = b.clone()
    for group, at in enumerate(chosen):
        _block(left, rank, group, at).zero_()
    return not bool(left.any())


def _block(b: Tensor, rank: int, group: int, at: int) -> Tensor:
    width = b.shape[0] // 3
    return b[at * width : (at + 1) * width, group * rank : (group + 1) * rank]


def _grouped(pair: Mapping[str, Tensor], rank: int, chosen: tuple[int, ...]) -> dict[str, Tensor]:
    """A as it is and the blocks of B below one another; of one LoRA for all of it, A once for each of q, k and v."""
    a, b = pair["lora_A"], pair["lora_B"]
    if a.shape[0] == rank:
        return {"lora_A": a.repeat(len(chosen), 1), "lora_B": b}
    return {"lora_A": a, "lora_B": torch.cat([_block(b, rank, group, at) for group, at in enumerate(chosen)])}
