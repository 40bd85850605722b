"""Several BitFits as one: the weighted sum of their vectors, at every module that one of them changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from hubcli.errors import UnsupportedError
from hubcli.method import Merged, MergeOptions, MergePart, Site
from hubcli_bitfit.settings import PARAMETER

if TYPE_CHECKING:
    from torch import Tensor

    from hubcli.families import Structure

Means = Callable[[Mapping[str, Any]], set[Site]]


def merged(structure: Structure, parts: Sequence[MergePart], options: MergeOptions, means: Means) -> Merged:
    """One BitFit of the weighted sum, added up in float64; `means` gives the sites that a config names.

    Raises:
        UnsupportedError: `options.how` is not exact.
    """
    options.only(("exact",), "bitfit")
    parts = MergePart.together(parts)
    touched = {site for part in parts for site in part.sites}
    made = Merged(_config(structure, parts, touched, means), {})
    for site in (Site(path) for path in structure.modules if Site(path) in touched):
        given = [(part.sites[site][PARAMETER].detach().cpu(), part.weight) for part in parts if site in part.sites]
        exact: Tensor = torch.stack([vector.double() * weight for vector, weight in given]).sum(0)
        dtype = torch.float32
        for vector, _ in given:
            dtype = torch.promote_types(dtype, vector.dtype)
        vector = exact.to(dtype)
        made.sites[site] = {PARAMETER: vector}
        made.errors[site] = (float((vector.double() - exact).norm()), float(exact.norm()))
    return made


def _config(structure: Structure, parts: Sequence[MergePart], touched: set[Site], means: Means) -> dict[str, Any]:
    """A part's own config where it means just these modules, else their names."""
    add = any(part.settings.add for part in parts)
    named = {"target_modules": sorted(structure.relative(site.path) for site in touched)}
    whole = {"target_modules": sorted(site.path for site in touched)}
    for config in (*(dict(part.config) for part in parts), named, whole):
        made = {**config, **({"add_biases": True} if add else {})}
        if means(made) == touched:
            return made
    raise UnsupportedError(f"bitfit: no list of names means just the {len(touched)} modules of these adapters")
