"""Compacter's linear maps (arXiv 2106.04647): H = Σᵢ ruleᵢ ⊗ Wᵢ, and x ↦ x·H + b.

Shapes: rule (dim, dim, dim), or its factors (dim, dim, 1) and (dim, 1, dim); W (dim, in / dim, out / dim), or its factors
(dim, in / dim, rank) and (dim, rank, out / dim); b (out,). Parameters are called `down_…` and `up_…`; what both maps of every
layer share has the names of AdapterHub's shared parameters.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hubcli.errors import ConfigKeyError, UnsupportedSiteError, WeightsError
from hubcli_bottleneck.phm_settings import PhmSettings

PLACES = {"down": "adapter_down.0", "up": "adapter_up"}
RULES = ("phm_rule", "phm_rule_left", "phm_rule_right")
SHARED = (*RULES, *(f"W_{place}_{side}" for place in PLACES for side in ("left", "right")))
Tree = dict[str, dict[str, Tensor]]

# parameter -> how AdapterHub's key of it ends
FILED = {
    **{f"{p}_{name}": f"adapters.*.{at}.{name}" for p, at in PLACES.items() for name in (*RULES, "W", "W_left", "W_right", "b")},
    **{name: f"shared_parameters.*.{name}" for name in SHARED},
}  # fmt: skip


def phm_shapes(width: int, narrow: int, phm: PhmSettings, where: str) -> dict[str, tuple[int, ...]]:
    """The parameters of one site.

    Raises:
        UnsupportedSiteError: the widths can't be cut into `phm_dim` parts.
    """
    n, r = phm.dim, phm.rank
    if width % n or narrow % n:
        raise UnsupportedSiteError(
            f"{where}: phm_dim {n} does not divide both the width {width} and the bottleneck {narrow}"
        )
    shapes: dict[str, tuple[int, ...]] = {}
    for place, inner, outer in (("down", width // n, narrow // n), ("up", narrow // n, width // n)):
        left, right = w_names(place, phm)
        if phm.factorized_w:
            shapes |= {left: (n, inner, r), right: (n, r, outer)}
        else:
            shapes[f"{place}_W"] = (n, inner, outer)
        if phm.bias:
            shapes[f"{place}_b"] = (outer * n,)
        rules = rule_names(place, phm)
        shapes |= dict(zip(rules, [(n, n, 1), (n, 1, n)] if phm.factorized_rule else [(n, n, n)], strict=True))
    return shapes


def w_names(place: str, phm: PhmSettings) -> tuple[str, str]:
    """The names of W's factors."""
    start = f"W_{place}" if phm.shared_w else f"{place}_W"
    return f"{start}_left", f"{start}_right"


def rule_names(place: str, phm: PhmSettings) -> tuple[str, ...]:
    """The names of the rule, or of its factors."""
    names = RULES[1:] if phm.factorized_rule else RULES[:1]
    return names if phm.shared_rule else tuple(f"{place}_{name}" for name in names)


def fresh_phm(shapes: Mapping[str, tuple[int, ...]], phm: PhmSettings) -> dict[str, Tensor]:
    """AdapterHub's start (every W Glorot normal, whatever `hypercomplex_nonlinearity` says), but for a last factor of zero:
    the delta is zero.
    """
    last = w_names("up", phm)[1] if phm.factorized_w else "up_W"
    made = {name: torch.zeros(shape) for name, shape in shapes.items()}
    for name, tensor in made.items():
        if name.endswith(RULES):
            span = phm.rule_range if phm.shared_rule else 0.01
            edge = 1.0 if phm.shared_rule else 0.01
            nn.init.uniform_(tensor, -edge, edge) if phm.rule_init == "uniform" else nn.init.normal_(tensor, std=span)
        elif name != last and tensor.dim() == 3:
            for matrix in tensor:
                nn.init.xavier_normal_(matrix)
    return made


def plain(tensors: Mapping[str, Tensor], *, learns_rule: bool = True) -> dict[str, Tensor]:
    """The two maps as a bottleneck's weights and biases: down_weight (narrow, width), and so on; a scaling as it is."""
    made = {name: tensor for name, tensor in tensors.items() if name == "scaling"}
    for place in PLACES:
        w = _product(tensors, f"W_{place}", f"{place}_W")
        rule = _product(tensors, "phm_rule", f"{place}_phm_rule")
        rule = rule if learns_rule else rule.detach()
        # H[(a, k), (b, l)] = Σᵢ rule[i, a, b] · W[i, k, l], transposed
        weight = torch.einsum("iab,ikl->blak", rule, w).flatten(2, 3).flatten(0, 1)
        bias = tensors.get(f"{place}_b")
        made[f"{place}_weight"] = weight
        made[f"{place}_bias"] = weight.new_zeros(weight.shape[0]) if bias is None else bias
    return made


def _product(tensors: Mapping[str, Tensor], *names: str) -> Tensor:
    """A tensor under the first of these names that there is, or the product of its two factors."""
    for name in names:
        if name in tensors:
            return tensors[name]
        if f"{name}_left" in tensors:
            return torch.bmm(tensors[f"{name}_left"], tensors[f"{name}_right"])
    raise WeightsError(f"{' or '.join(names)}: missing")


def shared_names(phm: PhmSettings) -> tuple[str, ...]:
    """What all layers have in common."""
    rules = rule_names("", phm) if phm.shared_rule else ()
    return (*rules, *(name for place in PLACES for name in w_names(place, phm) if phm.shared_w))


def spread_shared(tensors: Tree, phm: PhmSettings) -> Tree:
    """A file's tensors with what it keeps once at every site.

    Raises:
        WeightsError: it holds none of them: AdapterHub's library saves some adapters without.
    """
    whole: dict[str, Tensor] = {}
    sites: Tree = {}
    for path, group in tensors.items():
        if set(group) <= set(SHARED):
            whole |= group
        else:
            sites[path] = group
    missing = sorted(set(shared_names(phm)) - set(whole))
    if missing:
        raise WeightsError(
            f"{', '.join(missing)}: the config says that all layers share it, and the file lacks it: AdapterHub's library "
            "leaves it out where a bare model (BertModel and the like) was saved",
            hint="save it again from a model with heads (BertAdapterModel and the like)",
        )
    return {path: {**group, **whole} for path, group in sites.items()}


def check_start(phm: PhmSettings | None, init: str) -> None:
    """Refuse a start that these layers don't have.

    Raises:
        ConfigKeyError: AdapterHub's library has it for plain layers alone.
    """
    if phm is not None and init != "bert":
        raise ConfigKeyError(
            f"init_weights: {init!r} is for plain layers, phm_layer starts as init_weights 'bert' says"
        )
