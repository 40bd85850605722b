"""Bottlenecks: delta = scaling · up(act(down(z))).

down and up are matrices, or sums of Kronecker products (Compacter, `phm.py`); frozen, these are matrices too.
z is the value itself (Houlsby; Pfeiffer in pre-norm models), the layer norm of it (Pfeiffer in post-norm models, where the
value is what goes into that norm), or the residual that the sublayer got (parallel).
Shapes: down (bottleneck, width), up (width, bottleneck), with biases; scaling (1,) where learned, (width,) by channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from hubcli.errors import UnsupportedSiteError
from hubcli.method import Leaf, Merged, MergeOptions, MergePart, Method, Site, layer_index
from hubcli_bottleneck import merging
from hubcli_bottleneck.phm import FILED, check_start, fresh_phm, phm_shapes, plain, shared_names, spread_shared
from hubcli_bottleneck.places import filed_by_adapterhub, placed
from hubcli_bottleneck.settings import BottleneckSettings, completed, read_settings

if TYPE_CHECKING:
    from hubcli.families import Structure

ACTIVATION: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "swish": F.silu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "leakyrelu": F.leaky_relu,
    "mish": F.mish,
    "relu6": F.relu6,
    "linear": lambda x: x,
}
OLD_NAMES = {"gelu": "gelu_new", "gelu_orig": "gelu"}


class Bottleneck(Method[BottleneckSettings]):
    """The method `bottleneck`."""

    name: ClassVar[str] = "bottleneck"
    formats: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "adapterhub": {
            "down_weight": "adapters.*.adapter_down.0.weight",
            "down_bias": "adapters.*.adapter_down.0.bias",
            "up_weight": "adapters.*.adapter_up.weight",
            "up_bias": "adapters.*.adapter_up.bias",
            "scaling": "adapters.*.scaling",
            **FILED,
        }
    }

    def configure(self, config: Mapping[str, Any]) -> BottleneckSettings:
        """Read a config with AdapterHub's keys; errors as `read_settings`."""
        return read_settings(config)

    def defaults(self, structure: Structure, config: Mapping[str, Any]) -> dict[str, Any]:
        """AdapterHub's defaults of the variant, spelled out."""
        del structure
        return completed(config)

    def translated(
        self, format: str, config: dict[str, Any], tensors: dict[str, dict[str, Tensor]]
    ) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """Files from before AdapterHub's library noted its version call the two kinds of gelu otherwise.

        What Compacter's layers share stands once in such a file.
        """
        phm = self.configure({key: value for key, value in config.items() if key != "version"}).phm
        if phm is not None and format == "adapterhub":
            tensors = spread_shared(tensors, phm)
        old = format == "adapterhub" and config.get("version") is None
        name = config.get("non_linearity")
        return ({**config, "non_linearity": OLD_NAMES.get(name, name)} if old and name else config), tensors

    def sites(self, structure: Structure, settings: BottleneckSettings) -> Sequence[Site]:
        """The places of every layer."""
        return [site for _, _, site in placed(structure, settings)]

    def filed(self, structure: Structure, settings: BottleneckSettings, format: str) -> Mapping[str, Site]:
        """AdapterHub files by its own modules' names; hubcli's own format by the sites' modules."""
        if format == "adapterhub":
            return filed_by_adapterhub(structure, settings)
        return {structure.relative(site.path): site for site in self.sites(structure, settings)}

    def shares(self, site: Site, settings: BottleneckSettings) -> Mapping[str, str]:
        """Compacter's layers may have the rule, or W, in common."""
        return {} if settings.phm is None else {name: name for name in shared_names(settings.phm)}

    def shapes(self, site: Site, module: nn.Module, settings: BottleneckSettings) -> dict[str, tuple[int, ...]]:
        """Two linear maps and, where it is learned, the scaling."""
        width = _width(site, module)
        narrow = max(1, int(width // settings.factor(layer_index(f"x.x.{site.path}") or 0)))
        shapes: dict[str, tuple[int, ...]] = {
            "down_weight": (narrow, width),
            "down_bias": (narrow,),
            "up_weight": (width, narrow),
            "up_bias": (width,),
        }
        if settings.phm is not None:
            shapes = phm_shapes(width, narrow, settings.phm, site.path)
        if isinstance(settings.scaling, str):
            shapes["scaling"] = (1,) if settings.scaling == "learned" else (width,)
        return shapes

    def fresh(self, site: Site, module: nn.Module, settings: BottleneckSettings) -> dict[str, Tensor]:
        """down as AdapterHub starts it, up zero, so that the delta is zero; the scaling one."""
        check_start(settings.phm, settings.init)
        shapes = self.shapes(site, module, settings)
        made = {name: torch.zeros(shape) for name, shape in shapes.items()}
        if settings.phm is not None:
            made = fresh_phm(shapes, settings.phm)
        elif settings.init == "mam_adapter":
            nn.init.kaiming_uniform_(made["down_weight"], a=math.sqrt(5))
        else:
            nn.init.normal_(made["down_weight"], std=0.02)
        if "scaling" in made:
            nn.init.ones_(made["scaling"])
        return made

    def leaf(
        self, site: Site, module: nn.Module, settings: BottleneckSettings, tensors: dict[str, Tensor], trainable: bool
    ) -> Leaf:
        """Its form is the activation and where z comes from; frozen, scaling and Kronecker products are folded into weights."""
        del module
        source = "parallel" if settings.parallel else "norm" if site.port == "input" else "value"
        named = dict(tensors) if settings.phm is None or trainable else plain(tensors)
        if "scaling" not in named:
            named["scaling"] = torch.tensor(float(settings.scaling)).to(next(iter(named.values())))
        if not trainable:
            scaling = named.pop("scaling")
            named["up_weight"] = named["up_weight"] * scaling.view(-1, 1)
            named["up_bias"] = named["up_bias"] * scaling
        constants = {
            "dropout": settings.dropout,
            "learns_rule": float(settings.phm is None or settings.phm.learns_rule),
        }
        return Leaf(self, f"{source} {settings.activation}", named, constants, trainable)

    def delta(self, leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor) -> Tensor:
        """scaling · up(act(down(z)))."""
        t = (
            leaf.tensors
            if "up_weight" in leaf.tensors
            else plain(leaf.tensors, learns_rule=leaf.constants["learns_rule"] > 0)
        )
        z, activation = _read(leaf, module, x, value)
        inner = ACTIVATION[activation](F.linear(z.to(t["down_weight"].dtype), t["down_weight"], t["down_bias"]))
        added = F.linear(inner, t["up_weight"], t["up_bias"])
        if "scaling" in t:
            added = added * t["scaling"]
        if leaf.trainable and module.training and leaf.constants["dropout"] > 0:
            added = F.dropout(added, leaf.constants["dropout"])
        return added.to(value.dtype)

    def merge(self, leaves: Sequence[Leaf], weights: Sequence[float]) -> Leaf | None:
        """One wide bottleneck: down stacked, up side by side times the weight."""
        tensors = [leaf.tensors for leaf in leaves]
        shares = list(zip(tensors, weights, strict=True))
        merged = {
            "down_weight": torch.cat([t["down_weight"] for t in tensors], 0),
            "down_bias": torch.cat([t["down_bias"] for t in tensors], 0),
            "up_weight": torch.cat([t["up_weight"] * w for t, w in shares], 1),
            "up_bias": torch.stack([t["up_bias"] * w for t, w in shares]).sum(0),
        }
        return Leaf(self, leaves[0].form, merged, {"dropout": 0.0})

    def chain(self, leaves: Sequence[Leaf]) -> Leaf | None:
        """Parallel ones don't read what came before them, so their deltas add up; the others go in sequence."""
        return self.merge(leaves, [1.0] * len(leaves)) if leaves[0].form.startswith("parallel") else None

    def merged(self, structure: Structure, parts: Sequence[MergePart], options: MergeOptions) -> Merged:
        """One wider bottleneck of an Average; as `hubcli_bottleneck.merging.merged`."""
        return merging.merged(
            structure,
            parts,
            options,
            lambda config: self.sites(structure, self.configure(config)),
            lambda site: _width(site, structure.modules[site.path]),
        )

    def bank(self, leaves: Sequence[Leaf | None]) -> Leaf | None:
        """Side by side: down (groups, bottleneck, width), up (groups, width, bottleneck), padded by zeros."""
        known = [leaf for leaf in leaves if leaf is not None]
        widest = max(leaf.tensors["down_bias"].shape[0] for leaf in known)
        sizes = {name: (*tensor.shape,) for name, tensor in known[0].tensors.items()}
        sizes |= {"down_weight": (widest, sizes["down_weight"][1]), "down_bias": (widest,)}
        sizes |= {"up_weight": (sizes["up_weight"][0], widest)}
        made = {name: known[0].tensors[name].new_zeros(len(leaves), *size) for name, size in sizes.items()}
        for group, leaf in enumerate(leaves):
            for name, tensor in leaf.tensors.items() if leaf is not None else ():
                made[name][group][tuple(slice(n) for n in tensor.shape)] = tensor
        return Leaf(self, known[0].form, made)

    def delta_by_group(self, leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor) -> Tensor:
        """up(act(down(z))), a product over all groups each."""
        t = leaf.tensors
        z, activation = _read(leaf, module, x, value)
        flat = z.reshape(z.shape[0], -1, z.shape[-1]).to(t["down_weight"].dtype)
        inner = ACTIVATION[activation](
            torch.baddbmm(t["down_bias"].unsqueeze(1), flat, t["down_weight"].transpose(1, 2))
        )
        added = torch.baddbmm(t["up_bias"].unsqueeze(1), inner, t["up_weight"].transpose(1, 2))
        return added.view(value.shape).to(value.dtype)


def _read(leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor) -> tuple[Tensor, str]:
    """(z, the activation)."""
    source, _, activation = leaf.form.partition(" ")
    return x if source == "parallel" else module.forward(value) if source == "norm" else value, activation


def _width(site: Site, module: nn.Module) -> int:
    """The width of the value at a site."""
    if isinstance(module, nn.Linear):
        return module.out_features
    if isinstance(module, Conv1D):
        return int(module.nf)
    # The layer's own norms first: those inside attention may be as wide as one head (Qwen3, Gemma 3).
    inside = (module, *module.children(), *module.modules())
    norms = [m for m in inside if "norm" in type(m).__name__.lower() and getattr(m, "weight", None) is not None]
    if not norms:
        raise UnsupportedSiteError(f"{site.path}: the width of a {type(module).__name__}'s value can't be told")
    weight = norms[0].weight
    assert isinstance(weight, Tensor)
    return int(weight.shape[-1])
