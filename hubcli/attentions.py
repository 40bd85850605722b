"""Where a model has attention to which keys and values can be added, and how large they are. Told by structure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from hubcli.attention import dispatches

CROSS = ("crossattention", "EncDecAttention", "encoder_attn", "cross_attn")
SIZES = ("head_dim", "attention_head_size", "key_value_proj_dim", "head_size")
HEADS = ("num_heads", "n_heads", "num_attention_heads")


@dataclass(frozen=True, slots=True)
class Attention:
    """One attention module: `kind` is "self", "cross", or "encoder" for an encoder-decoder's encoder; `index` its layer.

    `heads` are those of keys and values, which grouped-query attention has fewer of.
    """

    path: str
    kind: str
    index: int
    heads: int
    head_dim: int


def attentions_of(modules: Mapping[str, nn.Module], both: bool) -> tuple[Attention, ...]:
    """Every attention that goes through AttentionInterface, in the order of the model; `both`: an encoder-decoder."""
    found: list[Attention] = []
    counts: dict[tuple[str, str], int] = {}
    for path, module in modules.items():
        if not path or not dispatches(module):
            continue
        parts = path.split(".")
        kind = "cross" if any(part in CROSS for part in parts) else "encoder" if both and "encoder" in parts else "self"
        numbered = next((at for at, part in enumerate(parts) if part.isdecimal()), len(parts))
        stack = (kind, ".".join(parts[:numbered]))
        counts[stack] = counts.get(stack, -1) + 1
        heads, size = _heads(module)
        found.append(Attention(path, kind, counts[stack], heads, size))
    return tuple(found)


def _heads(module: nn.Module) -> tuple[int, int]:
    """(key heads, head size): the module's own numbers before its config's."""
    config: Any = module.config
    whole = _first(module, HEADS) or _first(config, HEADS)
    heads = _first(module, ("num_key_value_heads",)) or int(getattr(config, "num_key_value_heads", None) or whole)
    return heads, _first(module, SIZES) or int(config.hidden_size) // whole


def _first(owner: Any, names: tuple[str, ...]) -> int:
    return next((value for name in names if isinstance(value := getattr(owner, name, None), int)), 0)
