"""How peft and AdapterHub keep a prefix: one tensor for all layers, (length, layers · 2 · heads · head size)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hubcli.errors import BaseMismatchError, ConfigKeyError, UnsupportedError, WeightsError
from hubcli.method import ATTENTION, Site
from hubcli_prefix.settings import PrefixSettings

if TYPE_CHECKING:
    from hubcli.families import Structure

Tree = dict[str, dict[str, Tensor]]
KINDS = {"self_prefix": "self", "self": "self", "encoder_prefix": "encoder", "cross_prefix": "cross"}
MLP = {
    "embedding": "wte.weight",
    "down_weight": "control_trans.0.weight",
    "down_bias": "control_trans.0.bias",
    "up_weight": "control_trans.2.weight",
    "up_bias": "control_trans.2.bias",
    "flat": "control_trans",
}
ADAPTERHUB = {
    f"{place}/{name}": f"prefix_tunings.*.{place}.{ending}" for place in KINDS for name, ending in MLP.items()
}
PEFT = {"prompt_embeddings": "prompt_embeddings"}
# the keys of AdapterHub's config, with its library's defaults
ADAPTERHUB_KEYS: dict[str, Any] = {
    "architecture": "prefix_tuning",
    "bottleneck_size": 512,
    "cross_prefix": True,
    "dropout": 0.0,
    "encoder_prefix": True,
    "flat": False,
    "init_weights_seed": None,
    "leave_out": [],
    "non_linearity": "tanh",
    "prefix_length": 30,
    "shared_gating": True,
    "use_gating": False,
}
KNOWN = {"bert", "albert", "distilbert", "gpt2", "llama", "t5 encoder", "t5 decoder", "bart"}  # layouts
ONES = "DistilBertSelfAttention"  # where AdapterHub's library adds 1 to a prefix's logits
HINT = "format='hubcli' holds it"


def from_adapterhub(structure: Structure, settings: PrefixSettings, tensors: Tree) -> dict[Site, dict[str, Tensor]]:
    """AdapterHub's tensors by site; the copies that its file has of them in every layer are left aside."""
    found: dict[Site, dict[str, Tensor]] = {}
    groups: Tree = {}
    for path, group in tensors.items():
        if ".pool" not in f".{path}.":
            for key, tensor in group.items():
                place, _, name = key.partition("/")
                groups.setdefault(KINDS[place], {})[name] = tensor
    for kind, group in groups.items():
        sites = _sites(structure, settings, kind)
        if not sites:
            raise BaseMismatchError(f"the prefix is for {kind}-attention, which this {structure.base_class} has not")
        if set(group) == {"flat"}:
            flat = group["flat"].reshape(settings.length, -1)
            found |= dict(zip(sites, _flat(structure, sites, flat), strict=True))
        elif set(group) == set(MLP) - {"flat"}:
            found |= dict(zip(sites, _projected(structure, sites, group), strict=True))
        else:
            raise WeightsError(f"{kind}: expected {', '.join(MLP.values())}, found {', '.join(group)}")
    return found


def from_peft(structure: Structure, settings: PrefixSettings, tensors: Tree) -> dict[Site, dict[str, Tensor]]:
    """peft's `prompt_embeddings` by site.

    In encoder-decoders peft 0.21 takes every other layer's share, from the first again at the end (`get_prompt` splits what it
    has for self- and cross-attention by fours): decoder layer i gets share 2i modulo the number of layers.
    """
    whole = tensors.get("", {}).get("prompt_embeddings")
    if whole is None or len(tensors) != 1 or whole.dim() != 2 or whole.shape[0] != settings.length:
        found = "none" if whole is None else str(tuple(whole.shape))
        raise WeightsError(f"prompt_embeddings: expected shape ({settings.length}, …), found {found}")
    sites = _sites(structure, settings, "self")
    shares = _flat(structure, sites, whole)
    both = bool(getattr(getattr(structure.model, "config", None), "is_encoder_decoder", False))
    if both == (settings.encoder or settings.cross):
        kind = "an encoder-decoder" if both else "no encoder-decoder"
        raise BaseMismatchError(
            f"num_transformer_submodules: expected {2 if both else 1}, found {1 if both else 2}: the model is {kind}"
        )
    if both:
        shares = [dict(shares[2 * i % len(shares)]) for i in range(len(shares))]
    return dict(zip(sites, shares, strict=True))


def to_peft(
    structure: Structure,
    settings: PrefixSettings,
    config: Mapping[str, Any],
    baked: Mapping[Site, tuple[Tensor, Tensor]],
) -> tuple[dict[str, Any], Tree]:
    """(config, tensors) as peft saves a prefix: flat, a projection baked in.

    Raises:
        UnsupportedError: peft's prefixes move the tokens' positions and stand in every layer's self-attention.
    """
    if not settings.shift:
        raise UnsupportedError(
            "peft counts a prefix as tokens before the text, which moves all positions; this one was made without",
            hint="position_shift: true in the config of a fresh prefix, or format='hubcli'",
        )
    known = structure.attentions()
    if any(attention.kind != "self" for attention in known) or len(baked) != len(known):
        raise UnsupportedError("peft's prefixes stand in every layer's self-attention, and there alone")
    layers = [torch.stack([t.transpose(0, 1) for t in baked[Site(a.path, ATTENTION)]], 1) for a in known]
    whole = torch.stack(layers, 1)  # (length, layers, 2, heads, head size)
    heads = known[0].heads
    made = {
        "num_virtual_tokens": settings.length,
        "num_layers": len(known),
        "num_attention_heads": heads,
        "token_dim": heads * known[0].head_dim,
        "num_transformer_submodules": 1,
        **{key: config[key] for key in ("task_type", "modules_to_save") if config.get(key)},
    }
    return made, {"": {"prompt_embeddings": whole.reshape(settings.length, -1).contiguous()}}


def to_adapterhub(
    structure: Structure,
    settings: PrefixSettings,
    config: Mapping[str, Any],
    tensors: Mapping[Site, Mapping[str, Tensor]],
) -> tuple[dict[str, Any], Tree]:
    """(config, tensors) as AdapterHub's library saves a prefix: for all layers at once, and once more in every layer.

    Raises:
        UnsupportedError: its library would make something else of it, or where it keeps such a prefix is not known.
    """
    layouts = {layer.layout.name for layer in structure.transformer_layers()}
    if not layouts or not layouts <= KNOWN:
        raise UnsupportedError(
            f"{structure.base_class}: how AdapterHub's library names its attention modules is not known", hint=HINT
        )
    if settings.shift:
        raise UnsupportedError("position_shift: AdapterHub's prefixes leave the positions as they are", hint=HINT)
    if settings.leave_out:
        raise UnsupportedError("leave_out: AdapterHub's files that leave layers out are not supported", hint=HINT)
    adding = any(type(structure.modules[site.path]).__name__ == ONES for site in tensors)
    if adding and not settings.ones:
        raise UnsupportedError("mask_of_ones: AdapterHub's DistilBERT adds ones, this prefix has none", hint=HINT)
    hidden = getattr(getattr(structure.model, "config", None), "hidden_size", None)
    widths = {t["embedding"].shape[1] for t in tensors.values() if "embedding" in t}
    if widths - {hidden}:
        raise UnsupportedError(
            f"bottleneck_size: AdapterHub's network reads vectors as wide as the model, {hidden}, "
            f"this prefix's {max(widths)}: the model shares its keys among heads",
            hint=HINT,
        )
    whole: dict[str, Tensor] = {}
    for kind in dict.fromkeys(KINDS.values()):
        sites = [site for site in _sites(structure, settings, kind) if site in tensors]
        place = "self" if adding else f"{kind}_prefix"
        groups = [tensors[site] for site in sites]
        whole |= {f"{place}/{name}": tensor for name, tensor in (_joined(groups) if groups else {}).items()}
    copies = [f"{structure.relative(site.path)}.prefix_tuning.pool" for site in tensors]
    own = {key: config.get(key, value) for key, value in ADAPTERHUB_KEYS.items()}
    return own, {path: dict(whole) for path in ("prefix_tuning", *copies)}


def _joined(groups: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The layers' tensors as one for all of them."""
    if "keys" in groups[0]:
        pairs = [torch.stack([t[name].transpose(0, 1) for name in ("keys", "values")], 1) for t in groups]
        return {"flat": torch.stack(pairs, 1).reshape(-1).contiguous()}
    common = {name: groups[0][name] for name in ("embedding", "down_weight", "down_bias")}
    return {**common, **{name: torch.cat([t[name] for t in groups]) for name in ("up_weight", "up_bias")}}


def _sites(structure: Structure, settings: PrefixSettings, kind: str) -> list[Site]:
    found = [a for a in structure.attentions() if a.kind == kind]
    if settings.leave_out and any(a.index in settings.leave_out for a in found):
        raise ConfigKeyError("leave_out: a file that leaves layers out is not supported")
    return [Site(a.path, ATTENTION) for a in found]


def _sizes(structure: Structure, sites: Sequence[Site]) -> tuple[int, int]:
    """(heads, head size) of these sites, which must be alike.

    Raises:
        BaseMismatchError: they differ, or a module serves several layers, so that layers can't be told apart.
    """
    known = {a.path: (a.heads, a.head_dim) for a in structure.attentions()}
    sizes = {known[site.path] for site in sites}
    if len(sizes) != 1:
        raise BaseMismatchError(f"a prefix for all layers needs layers alike, this {structure.base_class} has {sizes}")
    return next(iter(sizes))


def _layers(structure: Structure, sites: Sequence[Site], width: int) -> int:
    """The width of one layer's share."""
    heads, size = _sizes(structure, sites)
    if width != len(sites) * 2 * heads * size:
        raise BaseMismatchError(
            f"the prefix has {width} numbers a position, "
            f"the {len(sites)} attention layers of this {structure.base_class} need {len(sites) * 2 * heads * size}",
            hint="it was made for another number of layers or heads; a module that serves several layers counts once",
        )
    return 2 * heads * size


def _flat(structure: Structure, sites: Sequence[Site], whole: Tensor) -> list[dict[str, Tensor]]:
    share = _layers(structure, sites, whole.shape[1])
    heads, size = _sizes(structure, sites)
    made = []
    for part in torch.split(whole, share, 1):
        keys, values = part.view(-1, 2, heads, size).permute(1, 2, 0, 3)
        made.append({"keys": keys.contiguous(), "values": values.contiguous()})
    return made


def _projected(structure: Structure, sites: Sequence[Site], group: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    share = _layers(structure, sites, group["up_bias"].shape[0])
    common = {name: group[name] for name in ("embedding", "down_weight", "down_bias")}
    parts = zip(torch.split(group["up_weight"], share), torch.split(group["up_bias"], share), strict=True)
    return [{**common, "up_weight": weight, "up_bias": bias} for weight, bias in parts]
