"""Several LoRAs as one: ranks side by side where that is exact, else cut by SVD, or pruned by peft's own functions.

Whatever its parts' scales, rsLoRA or alphas were, the one that is made has a scale of 1: they stand in its B.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hubcli.errors import UnsupportedError
from hubcli.method import Merged, MergeOptions, MergePart, Site
from hubcli_lora import maths
from hubcli_lora.low_rank import Change, Thin, apart, cut, size, total, whole
from hubcli_lora.merged_config import merged_config

if TYPE_CHECKING:
    from hubcli.families import Structure

EXACT, SVD, AFTER = "exact", "svd", "_svd"
SIGNED = ("ties", "dare_ties")  # those of peft's functions that elect signs
INSTEAD = "svd (with rank= or energy=), or ties_svd, dare_linear_svd, dare_ties_svd, magnitude_prune_svd"


def merged(structure: Structure, parts: Sequence[MergePart], options: MergeOptions) -> Merged:
    """One LoRA of the weighted sum.

    Raises:
        UnsupportedError: `options.how` can't be done with these parts; the hint says what can.
    """
    parts = MergePart.together(parts)
    _check(parts, options.how)
    touched = {site for part in parts for site in part.sites}
    sites = [Site(path) for path in structure.modules if Site(path) in touched]
    made = Merged({}, {})
    for done, site in enumerate(sites, 1):
        module = structure.modules[site.path]
        here = [part for part in parts if site in part.sites]
        _check_groups(site, module, options.how)
        exact = total([(change_of(part, site, module), part.weight) for part in here])
        tensors = _stored(site, module, _of_kind(site, module, here, exact, options), here)
        made.sites[site] = {**tensors, **_biases(site, module, here, parts)}
        made.ranks[site] = next(iter(tensors.values())).shape[0]
        made.errors[site] = (apart(_read(tensors, module), exact), size(exact))
        options.tick(done, len(sites))
    ranks = {site.path: rank for site, rank in made.ranks.items()}
    made.config = merged_config(structure, parts, ranks, options.replaced)
    return made


def _check(parts: Sequence[MergePart], how: str) -> None:
    """Refuse what would be no merge by this `how`."""
    dora = next((part.name for part in parts if part.settings.dora), None)
    if dora is not None and how != SVD and not how.endswith(AFTER):
        raise UnsupportedError(
            f"'{dora}' is a DoRA, whose change is not linear in its parameters: {how} can't merge it",
            hint=f"how: {INSTEAD}",
        )


def _check_groups(site: Site, module: nn.Module, how: str) -> None:
    if isinstance(module, maths.CONVS) and module.groups > 1 and how.endswith(AFTER):
        raise UnsupportedError(
            f"{site.path}: {how} prunes the weight's change, which a convolution with groups has not", hint="how: svd"
        )


def change_of(part: MergePart, site: Site, module: nn.Module) -> Change:
    """What a part adds to a module's weight, its scale included, its weight in the merge not; DoRA's is whole."""
    tensors = part.sites[site]
    thin = _read(tensors, module)
    thin = Thin(thin.a, thin.b * part.settings.scale(site.path))
    if "magnitude" not in tensors:
        return thin
    weight = _double(maths.dense_weight(module, torch.float64)).flatten(1).unsqueeze(0)
    turned = weight + thin.b @ thin.a
    factor = _double(tensors["magnitude"]).view(-1, 1) / maths.row_norm(turned[0]).view(-1, 1)
    return factor * turned - weight


def _read(tensors: Mapping[str, Tensor], module: nn.Module) -> Thin:
    """A and B as matrices, a group each, in float64."""
    a, b = (_double(tensors[half]) for half in _halves(module))
    groups = _groups(module)
    return Thin(a.reshape(groups, a.shape[0] // groups, -1), b.reshape(groups, -1, b.shape[1]))


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float64)


def _halves(module: nn.Module) -> tuple[str, str]:
    kind = maths.kind_of(module)
    assert kind is not None
    return maths.HALVES[kind]


def _groups(module: nn.Module) -> int:
    return module.groups if isinstance(module, maths.CONVS) else 1


def _stored(site: Site, module: nn.Module, thin: Thin, here: Sequence[MergePart]) -> dict[str, Tensor]:
    """A and B of the module's shapes, in the parts' dtype but no coarser than float32."""
    names = _halves(module)
    first = here[0].sites[site]
    dtype = _dtype(site, here)
    rank = thin.a.shape[0] * thin.a.shape[1]
    shapes = [
        (rank, *first[names[0]].shape[1:]),
        (first[names[1]].shape[0], thin.b.shape[2], *first[names[1]].shape[2:]),
    ]
    given = zip(names, (thin.a, thin.b), shapes, strict=True)
    return {name: half.reshape(shape).to(dtype).contiguous() for name, half, shape in given}


def _dtype(site: Site, here: Sequence[MergePart]) -> torch.dtype:
    dtype = torch.float32
    for part in here:
        for tensor in part.sites[site].values():
            dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _of_kind(site: Site, module: nn.Module, here: Sequence[MergePart], exact: Change, options: MergeOptions) -> Thin:
    """The change that takes the exact one's place."""
    if options.how == EXACT:
        assert isinstance(exact, Thin)
        return exact
    if options.how == SVD:
        return cut(exact, options.rank, options.energy)
    dtype = _dtype(site, here)
    if options.how.endswith(AFTER):
        deltas = [whole(change_of(part, site, module)).to(dtype) for part in here]
        found = _pruned(deltas, [part.weight for part in here], options)
        return cut(found.to(torch.float64), options.rank, options.energy)
    return _pruned_halves(site, module, here, dtype, options)


def _pruned_halves(
    site: Site, module: nn.Module, here: Sequence[MergePart], dtype: torch.dtype, options: MergeOptions
) -> Thin:
    """As peft's add_weighted_adapter: A and B each for themselves, the root of weight · scale on either, its sign on A.

    Raises:
        UnsupportedError: the ranks differ.
    """
    names = _halves(module)
    ranks = {part.name: part.sites[site][names[0]].shape[0] for part in here}
    if len(set(ranks.values())) > 1:
        shown = ", ".join(f"'{name}' {rank}" for name, rank in ranks.items())
        raise UnsupportedError(
            f"{site.path}: {options.how} needs equal ranks, found {shown}",
            hint=f"how: {options.how}{AFTER}, svd, exact",
        )
    scales = [part.weight * part.settings.scale(site.path) for part in here]
    roots = [math.sqrt(abs(scale)) for scale in scales]
    signed = [math.copysign(root, scale) for root, scale in zip(roots, scales, strict=True)]
    halves = [
        _pruned([part.sites[site][name].detach().to("cpu", dtype) for part in here], weights, options)
        for name, weights in zip(names, (signed, roots), strict=True)
    ]
    return _read(dict(zip(names, halves, strict=True)), module)


def _pruned(tensors: list[Tensor], weights: Sequence[float], options: MergeOptions) -> Tensor:
    """peft's function of this name on tensors of one shape."""
    from peft.utils import merge_utils

    name = options.how.removesuffix(AFTER)
    more: dict[str, Any] = {"majority_sign_method": options.majority_sign} if name in SIGNED else {}
    given = torch.tensor(weights, dtype=tensors[0].dtype, device=tensors[0].device)
    made: Tensor = getattr(merge_utils, name)(tensors, given, options.density, **more)
    return made


def _biases(site: Site, module: nn.Module, here: Sequence[MergePart], parts: Sequence[MergePart]) -> dict[str, Tensor]:
    """The weighted sum of what is constant: of lora_bias with its scale, and of the changes of the module's own bias."""
    made: dict[str, Tensor] = {}
    dtype = _dtype(site, here)
    out = here[0].sites[site][_halves(module)[1]].shape[0]
    if any(part.settings.lora_bias for part in parts):
        if maths.kind_of(module) == "embedding":
            raise UnsupportedError(
                f"{site.path}: lora_bias is not defined for an embedding, which another adapter adapts"
            )
        given = [
            _double(part.sites[site]["lora_bias"]) * (part.weight * part.settings.scale(site.path))
            for part in here
            if part.settings.lora_bias
        ]
        made["lora_bias"] = sum(given, torch.zeros(out, dtype=torch.float64)).to(dtype)
    own = getattr(module, "bias", None)
    if isinstance(own, Tensor) and any(part.settings.base_bias for part in parts):
        base = _double(own)
        moved = [
            (_double(part.sites[site]["bias"]) - base) * part.weight for part in here if "bias" in part.sites[site]
        ]
        made["bias"] = sum(moved, base).to(dtype)
    return made
