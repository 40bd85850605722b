"""Several prefixes as one: their keys and values side by side, as a stack of them acts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from hubcli.errors import UnsupportedError
from hubcli.method import Merged, MergeOptions, MergePart, Site
from hubcli_prefix.settings import DEFAULTS, PrefixSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    Baked = Callable[[str, PrefixSettings, Mapping[str, Tensor]], tuple[Tensor, Tensor]]

NETWORK = ("bottleneck_size", "non_linearity", "dropout")


def merged(parts: Sequence[MergePart], options: MergeOptions, baked: Baked) -> Merged:
    """One flat prefix of all their tokens; `baked` gives a site's keys and values, each (kv heads, length, head size).

    Raises:
        UnsupportedError: `options.how` is not exact; weights, which no file of a prefix can hold; prefixes of two kinds.
    """
    options.only(("exact",), "prefix")
    _check(parts, options)
    length = sum(part.settings.length for part in parts)
    config = {key: value for key, value in parts[0].config.items() if key not in NETWORK}
    config = {**config, "flat": True, "prefix_length": length}
    made = Merged({**{key: DEFAULTS[key] for key in NETWORK if key in parts[0].config}, **config}, {})
    for site in parts[0].sites:
        pairs = [baked(site.path, part.settings, part.sites[site]) for part in parts]
        keys, values = (torch.cat([half.detach().cpu() for half in halves], 1) for halves in zip(*pairs, strict=True))
        made.sites[site] = {"keys": keys, "values": values}
        made.ranks[site] = length
    return made


def _check(parts: Sequence[MergePart], options: MergeOptions) -> None:
    weighed = next((part for part in parts if part.weight != 1.0), None)
    if weighed is not None:
        raise UnsupportedError(
            f"'{weighed.name}' has weight {weighed.weight:g}: a weight multiplies a prefix's softmax mass, which no prefix's "
            "file can hold",
            hint="a Stack of prefixes can be merged; an Average runs as a composition",
        )
    first = parts[0]
    if options.averaged and any(part.settings.shift for part in parts):
        raise UnsupportedError(
            f"'{first.name}' moves the tokens' positions by its length: in an Average they move once, in one prefix of all "
            "tokens by their sum",
            hint="a Stack of them can be merged",
        )
    for part in parts[1:]:
        if _kind(part.settings) != _kind(first.settings) or _places(part) != _places(first):
            raise UnsupportedError(
                f"'{first.name}' and '{part.name}' are prefixes of two kinds: {_differing(first.settings, part.settings)}",
                hint="one prefix stands in all of its layers, with or without moving the tokens' positions",
            )


def _kind(settings: PrefixSettings) -> PrefixSettings:
    """All of the settings that one prefix has one of."""
    return replace(settings, length=0, hidden=0, activation="", dropout=0.0)


def _places(part: MergePart) -> set[Site]:
    return set(part.sites)


def _differing(one: PrefixSettings, other: PrefixSettings) -> str:
    names = {"shift": "position_shift", "ones": "mask_of_ones", "encoder": "encoder_prefix", "cross": "cross_prefix"}
    kinds = [(name, getattr(_kind(one), name), getattr(_kind(other), name)) for name in (*names, "leave_out")]
    return "; ".join(f"{names.get(name, name)} {a} and {b}" for name, a, b in kinds if a != b) or "other layers"
