"""Prefixes: keys and values in front of an attention's own (Li and Liang 2021).

While it trains, a prefix may come out of a network, up(act(down(embedding))), that all layers of a stack share but for `up`.
Shapes: keys and values (kv heads, length, head size); embedding (length, width), down (hidden, width), up (2 · width, hidden),
with width = kv heads · head size; up's outputs are the keys, then the values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hubcli.errors import UnsupportedSiteError
from hubcli.method import ATTENTION, Leaf, Merged, MergeOptions, MergePart, Method, Site
from hubcli_prefix import files, merging
from hubcli_prefix.settings import DEFAULTS, PrefixSettings, from_peft, read_settings

if TYPE_CHECKING:
    from hubcli.families import Structure

ACTIVATION: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "swish": F.silu,
    "linear": lambda x: x,
}
SHARED = ("embedding", "down_weight", "down_bias")


class Prefix(Method[PrefixSettings]):
    """The method `prefix`."""

    name: ClassVar[str] = "prefix"
    formats: ClassVar[Mapping[str, Mapping[str, str]]] = {"peft": files.PEFT, "adapterhub": files.ADAPTERHUB}

    def __init__(self) -> None:
        self._sizes: dict[str, tuple[int, int]] = {}

    def configure(self, config: Mapping[str, Any]) -> PrefixSettings:
        """Read a config with AdapterHub's keys; errors as `read_settings`."""
        return read_settings(config)

    def defaults(self, structure: Structure, config: Mapping[str, Any]) -> dict[str, Any]:
        """AdapterHub's defaults, spelled out."""
        del structure
        return {**DEFAULTS, **config}

    def translated(
        self, format: str, config: dict[str, Any], tensors: dict[str, dict[str, Tensor]]
    ) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """peft's config as this method's own; AdapterHub's has the same keys."""
        if format == "peft":
            return from_peft(config), tensors
        return {**{key: value for key, value in config.items() if key != "version"}, "mask_of_ones": True}, tensors

    def sites(self, structure: Structure, settings: PrefixSettings) -> Sequence[Site]:
        """Every attention that the settings name.

        Raises:
            UnsupportedSiteError: the family's attention takes no further keys.
        """
        wanted = {"self": True, "encoder": settings.encoder, "cross": settings.cross}
        known = structure.attentions()
        if not known:
            raise UnsupportedSiteError(
                f"no attention of this {structure.base_class} calls transformers' AttentionInterface, "
                "so a prefix can't be added"
            )
        self._sizes |= {a.path: (a.heads, a.head_dim) for a in known}
        return [Site(a.path, ATTENTION) for a in known if wanted[a.kind] and a.index not in settings.leave_out]

    def filed(self, structure: Structure, settings: PrefixSettings, format: str) -> Mapping[str, Site] | None:
        """hubcli's own format files by the attention modules."""
        if format == "adapterhub":
            return None
        return {structure.relative(site.path): site for site in self.sites(structure, settings)}

    def spread(
        self, structure: Structure, settings: PrefixSettings, format: str, tensors: dict[str, dict[str, Tensor]]
    ) -> dict[Site, dict[str, Tensor]] | None:
        """peft's and AdapterHub's tensors are for all layers at once."""
        self.sites(structure, settings)
        if format == "hubcli":
            return None
        return (files.from_peft if format == "peft" else files.from_adapterhub)(structure, settings, tensors)

    def gathered(
        self,
        structure: Structure,
        settings: PrefixSettings,
        format: str,
        config: Mapping[str, Any],
        sites: Mapping[Site, Mapping[str, Tensor]],
    ) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """For peft with the network baked in; errors as `hubcli_prefix.files.to_peft` and `to_adapterhub`."""
        if format == "adapterhub":
            return files.to_adapterhub(structure, settings, config, sites)
        baked = {site: self._baked(site.path, settings, tensors) for site, tensors in sites.items()}
        return files.to_peft(structure, settings, config, baked)

    def shift(self, settings: PrefixSettings) -> int:
        """The prefix's length where it counts as tokens."""
        return settings.length if settings.shift else 0

    def shares(self, site: Site, settings: PrefixSettings) -> Mapping[str, str]:
        """The layers of one stack share all of the network but its last map."""
        if not settings.hidden:
            return {}
        stack = re.sub(r"\.\d+(?=\.)", ".*", site.path)
        return dict.fromkeys(SHARED, stack)

    def shapes(self, site: Site, module: nn.Module, settings: PrefixSettings) -> dict[str, tuple[int, ...]]:
        """Keys and values, or the network that makes them."""
        if site.path not in self._sizes or site.port != ATTENTION:
            raise UnsupportedSiteError(f"{site.path}: a {type(module).__name__} takes no prefix")
        heads, size = self._sizes[site.path]
        if not settings.hidden:
            return dict.fromkeys(("keys", "values"), (heads, settings.length, size))
        width = heads * size
        return {
            "embedding": (settings.length, width),
            "down_weight": (settings.hidden, width),
            "down_bias": (settings.hidden,),
            "up_weight": (2 * width, settings.hidden),
            "up_bias": (2 * width,),
        }

    def fresh(self, site: Site, module: nn.Module, settings: PrefixSettings) -> dict[str, Tensor]:
        """Small random numbers: a prefix always takes some of the softmax's mass, so no fresh one does nothing."""
        shapes = self.shapes(site, module, settings)
        made = {name: torch.zeros(shape) for name, shape in shapes.items()}
        for name, tensor in made.items():
            if not name.endswith("bias"):
                nn.init.normal_(tensor, std=1.0 if name == "embedding" else 0.02)
        return made

    def leaf(
        self, site: Site, module: nn.Module, settings: PrefixSettings, tensors: dict[str, Tensor], trainable: bool
    ) -> Leaf:
        """Keys and values, computed once where nothing trains."""
        ones = settings.ones and type(module).__name__ == files.ONES
        if not trainable:
            keys, values = self._baked(site.path, settings, tensors)
            tensors = {"keys": keys, "values": values}
        heads, _ = self._sizes[site.path]
        form = settings.activation if trainable and settings.hidden else "flat"
        return Leaf(
            self, form, tensors, {"dropout": settings.dropout, "heads": heads, "log_mass": float(ones)}, trainable
        )

    def keys_values(self, leaf: Leaf, module: nn.Module) -> tuple[Tensor, Tensor]:
        """The prefix as it is now."""
        t = leaf.tensors
        keys, values = (
            (t["keys"], t["values"]) if leaf.form == "flat" else _made(t, leaf.form, int(leaf.constants["heads"]))
        )
        if leaf.trainable and module.training and leaf.constants["dropout"] > 0:
            keys, values = (F.dropout(part, leaf.constants["dropout"]) for part in (keys, values))
        return keys, values

    def merged(self, structure: Structure, parts: Sequence[MergePart], options: MergeOptions) -> Merged:
        """All tokens of a Stack in one prefix; as `hubcli_prefix.merging.merged`."""
        self.sites(structure, parts[0].settings)
        return merging.merged(parts, options, self._baked)

    def _baked(self, path: str, settings: PrefixSettings, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        if not settings.hidden:
            return tensors["keys"].detach(), tensors["values"].detach()
        with torch.no_grad():
            return _made(tensors, settings.activation, self._sizes[path][0])


def _made(t: Mapping[str, Tensor], activation: str, heads: int) -> tuple[Tensor, Tensor]:
    """What the network gives: keys and values, each (kv heads, length, head size)."""
    inner = ACTIVATION[activation](F.linear(t["embedding"], t["down_weight"], t["down_bias"]))
    both = F.linear(inner, t["up_weight"], t["up_bias"])
    keys, values = both.view(both.shape[0], 2, heads, -1).permute(1, 2, 0, 3)
    return keys, values
