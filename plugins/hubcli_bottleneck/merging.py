"""Several bottlenecks as one that is wider: down stacked, up side by side times weight and scaling.

A layer's adapters have one reduction factor, so those of a layer are as wide as its widest: units that put out nothing fill up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hubcli.errors import UnsupportedError
from hubcli.method import Merged, MergeOptions, MergePart, Site, layer_index
from hubcli_bottleneck.phm import plain
from hubcli_bottleneck.settings import DEFAULTS, BottleneckSettings

if TYPE_CHECKING:
    from hubcli.families import Structure

KIND = ("parallel", "after_norm", "activation")
Tensors = dict[str, Tensor]


def merged(
    structure: Structure,
    parts: Sequence[MergePart],
    options: MergeOptions,
    sites_of: Callable[[Mapping[str, Any]], Sequence[Site]],
    width_of: Callable[[Site], int],
) -> Merged:
    """One bottleneck of the weighted sum.

    Args:
        sites_of: the sites that a config names. width_of: the width of the value at a site.

    Raises:
        UnsupportedError: `options.how` is not exact; a Stack of bottlenecks that read one another; bottlenecks of two kinds.
    """
    del structure
    options.only(("exact",), "bottleneck")
    parts = MergePart.together(parts)
    _check(parts, options)
    config = _config(parts)
    found = {site: [_folded(part, site) for part in parts if site in part.sites] for site in sites_of(config)}
    layers: dict[int, int] = {}
    for site, given in found.items():
        narrow = sum(t["down_weight"].shape[0] for t in given)
        layers[_layer(site)] = max(layers.get(_layer(site), 1), narrow)
    widths = {_layer(site): width_of(site) for site in found}
    odd = next((site for site in found if width_of(site) != widths[_layer(site)]), None)
    if odd is not None:
        raise UnsupportedError(
            f"{odd.path}: its layer has values of several widths, one reduction factor can't serve them"
        )
    made = Merged(config, {})
    dtype = _dtype(parts)
    for site, given in found.items():
        made.sites[site] = _wide(given, layers[_layer(site)], width_of(site), dtype)
        made.ranks[site] = layers[_layer(site)]
    config["reduction_factor"] = _factors(layers, widths)
    phm = [part.name for part in parts if part.settings.phm is not None]
    if phm:
        made.notes.append(f"Kronecker products are multiplied out: {', '.join(phm)}")
    return made


def _check(parts: Sequence[MergePart], options: MergeOptions) -> None:
    first = parts[0]
    if options.stacked and not first.settings.parallel:
        names = ", ".join(f"'{part.name}'" for part in parts)
        raise UnsupportedError(
            f"a Stack of bottlenecks is a sequence, each reading what the one before it adds: no one bottleneck does that "
            f"({names})",
            hint="an Average of them can be merged",
        )
    for part in parts[1:]:
        for key in KIND:
            one, other = getattr(first.settings, key), getattr(part.settings, key)
            if one != other:
                raise UnsupportedError(
                    f"'{first.name}' and '{part.name}' are bottlenecks of two kinds: {key} {one} and {other}"
                )


def _config(parts: Sequence[MergePart]) -> dict[str, Any]:
    """All places that one of the parts has; its plain layers have a scaling of 1."""
    every: list[BottleneckSettings] = [part.settings for part in parts]
    return {
        **DEFAULTS,
        "mh_adapter": any(settings.attention for settings in every),
        "output_adapter": any(settings.ffn for settings in every),
        "is_parallel": every[0].parallel,
        "original_ln_before": every[0].after_norm,
        "non_linearity": every[0].activation,
        "leave_out": sorted(set.intersection(*(set(settings.leave_out) for settings in every))),
        "reduction_factor": 1.0,
    }


def _folded(part: MergePart, site: Site) -> Tensors:
    """Plain weights in float64, with the scaling and the part's weight in `up`."""
    named: Tensors = {name: tensor.detach().cpu().double() for name, tensor in part.sites[site].items()}
    if part.settings.phm is not None:
        named = plain(named)
    scaling = named.pop("scaling") if "scaling" in named else torch.tensor([float(part.settings.scaling)]).double()
    named["up_weight"] = named["up_weight"] * (scaling * part.weight).view(-1, 1)
    named["up_bias"] = named["up_bias"] * (scaling * part.weight)
    return named


def _wide(given: Sequence[Tensors], narrow: int, width: int, dtype: torch.dtype) -> Tensors:
    """One bottleneck of all units, filled up to `narrow` with units of zeros; (bottleneck, width) and (width, bottleneck)."""
    made = {
        "down_weight": torch.zeros(narrow, width, dtype=dtype),
        "down_bias": torch.zeros(narrow, dtype=dtype),
        "up_weight": torch.zeros(width, narrow, dtype=dtype),
        "up_bias": torch.zeros(width, dtype=dtype),
    }
    at = 0
    for tensors in given:
        units = slice(at, at := at + tensors["down_weight"].shape[0])
        made["down_weight"][units] = tensors["down_weight"]
        made["down_bias"][units] = tensors["down_bias"]
        made["up_weight"][:, units] = tensors["up_weight"]
    if given:
        made["up_bias"] = torch.stack([tensors["up_bias"] for tensors in given]).sum(0).to(dtype)
    return made


def _dtype(parts: Sequence[MergePart]) -> torch.dtype:
    """The finest of the parts' dtypes, no coarser than float32."""
    dtype = torch.float32
    for tensor in (tensor for part in parts for tensors in part.sites.values() for tensor in tensors.values()):
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _layer(site: Site) -> int:
    return layer_index(f"x.x.{site.path}") or 0


def _factors(layers: Mapping[int, int], widths: Mapping[int, int]) -> float | dict[str, float]:
    """The reduction factor whose whole quotient is the bottleneck's width: one for all layers, or one each."""
    each = {str(layer): _factor(widths[layer], narrow) for layer, narrow in layers.items()}
    return next(iter(each.values())) if len(set(each.values())) == 1 else each


def _factor(width: int, narrow: int) -> float:
    found = width / narrow
    return found if int(width // found) == narrow else width / (narrow + 0.5)
