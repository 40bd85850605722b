"""BitFit: delta = δb, one vector a module, stored as the change of the bias, so that it fits a base of any dtype.

At a Linear, Conv1D or norm δb is added to the last axis; at a convolution or a group or batch norm to the channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from hubcli.errors import UnsupportedSiteError
from hubcli.method import Groups, Leaf, Merged, MergeOptions, MergePart, Method, Site
from hubcli_bitfit import merging
from hubcli_bitfit.settings import PARAMETER, BitFitSettings, read_settings

if TYPE_CHECKING:
    from hubcli.families import Structure

# modules whose output is something plus the bias: over the last axis, or over the channels (axis 1)
CONVS: tuple[type[nn.Module], ...] = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
WIDTHS = ("out_features", "nf", "out_channels")  # of modules that have no bias
CHANNELS = (*CONVS, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class BitFit(Method[BitFitSettings]):
    """The method `bitfit`."""

    name: ClassVar[str] = "bitfit"

    def configure(self, config: Mapping[str, Any]) -> BitFitSettings:
        """Read a config; errors as `read_settings`."""
        return read_settings(config)

    def sites(self, structure: Structure, settings: BitFitSettings) -> Sequence[Site]:
        """The output of every module with a bias that the settings name; with `add_biases`, of those without one too.

        Raises:
            UnsupportedSiteError: nothing has a bias; a chosen module has none; or a bias whose use is not known.
        """
        modules = structure.modules
        matching = structure.matching(settings.targets)
        known = [path for path in matching if _form(modules[path])]
        bare = {path for path in known if _bias(modules[path]) is None}
        if settings.add:
            out = structure.output_embeddings()
            bare = set() if settings.named else {path for path in bare if modules[path] is out}
        elif bare and (settings.named or len(bare) == len(known)):
            first = next(path for path in known if path in bare)
            none = f"no module that the config means in this {structure.base_class} has a bias, e.g. {first}"
            raise _without(f"{first} has no bias" if settings.named else none)
        covered = {id(_bias(modules[path])) for path in known}
        for path in matching:
            own = _bias(modules[path])
            if (path not in known and own is not None and id(own) not in covered) or _others(modules[path]):
                raise _unknown(path, modules[path])
        return [Site(path) for path in known if path not in bare]

    def claims(self, path: str, settings: BitFitSettings) -> bool:
        """Whether the settings name this module."""
        return settings.targets.match(path)

    def shapes(self, site: Site, module: nn.Module, settings: BitFitSettings) -> dict[str, tuple[int, ...]]:
        """One vector over the module's outputs."""
        if not _form(module):
            raise _unknown(site.path, module)
        if _bias(module) is None and not settings.add:
            raise _without(f"{site.path} has no bias")
        return {PARAMETER: (_width(module),)}

    def fresh(self, site: Site, module: nn.Module, settings: BitFitSettings) -> dict[str, Tensor]:
        """Zeros: the bias as it is."""
        return {name: torch.zeros(shape) for name, shape in self.shapes(site, module, settings).items()}

    def leaf(
        self, site: Site, module: nn.Module, settings: BitFitSettings, tensors: dict[str, Tensor], trainable: bool
    ) -> Leaf:
        """The vector, and whether it lies along the last axis or the channels."""
        del site, settings
        return Leaf(self, _form(module), {"bias": tensors[PARAMETER]}, trainable=trainable)

    def delta(self, leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor) -> Tensor:
        """δb at every position."""
        del module, x
        return _outward(leaf, value).expand_as(value)

    def apply(self, leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor) -> Tensor:
        """One addition, nothing expanded."""
        del module, x
        return value + _outward(leaf, value)

    def weight_delta(
        self, leaf: Leaf, site: Site, module: nn.Module, weight: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """δb to the bias; a module without one gets it."""
        del site, module, weight, bias
        return None, leaf.tensors["bias"]

    def merge(self, leaves: Sequence[Leaf], weights: Sequence[float]) -> Leaf | None:
        """The weighted sum, added up in float32 or finer."""
        given = leaves[0].tensors["bias"]
        finer = torch.promote_types(given.dtype, torch.float32)
        parts = [leaf.tensors["bias"].to(finer) * weight for leaf, weight in zip(leaves, weights, strict=True)]
        return Leaf(self, leaves[0].form, {"bias": torch.stack(parts).sum(0).to(given.dtype)})

    def chain(self, leaves: Sequence[Leaf]) -> Leaf | None:
        """δb depends on nothing, so a stack is the sum."""
        return self.merge(leaves, [1.0] * len(leaves))

    def grouped(self, leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor, groups: Groups) -> Tensor:
        """One addition: rows stand still and take their group's vector."""
        if groups.rows is None:
            return super().grouped(leaf, module, x, value, groups)
        picked = leaf.tensors["bias"].index_select(0, groups.rows)
        each = Leaf(self, leaf.form, {"bias": picked})
        return (value.unsqueeze(1) + self.delta_by_group(each, module, x, value.unsqueeze(1))).squeeze(1)

    def bank(self, leaves: Sequence[Leaf | None]) -> Leaf | None:
        """One vector a group, zero where there is none."""
        known = next(leaf for leaf in leaves if leaf is not None)
        none = torch.zeros_like(known.tensors["bias"])
        vectors = [none if leaf is None else leaf.tensors["bias"] for leaf in leaves]
        return Leaf(self, known.form, {"bias": torch.stack(vectors)})

    def delta_by_group(self, leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor) -> Tensor:
        """δb at every position of a group's rows."""
        del module, x
        bias = leaf.tensors["bias"].to(value.dtype)
        around = value.dim() - 3  # axes beside groups, rows and the one that the vector lies along
        last = leaf.form == "last"
        return bias.view(bias.shape[0], 1, *(1,) * (around if last else 0), -1, *(1,) * (0 if last else around)).expand(
            *value.shape[:2], *(-1,) * (value.dim() - 2)
        )

    def merged(self, structure: Structure, parts: Sequence[MergePart], options: MergeOptions) -> Merged:
        """The weighted sum; as `hubcli_bitfit.merging.merged`."""
        return merging.merged(structure, parts, options, lambda c: set(self.sites(structure, self.configure(c))))


def _outward(leaf: Leaf, value: Tensor) -> Tensor:
    """The vector in the value's dtype, shaped to be added to it."""
    bias = leaf.tensors["bias"].to(value.dtype)
    return bias if leaf.form == "last" else bias.view(-1, *(1,) * (value.dim() - 2))


def _form(module: nn.Module) -> str:
    """Where this module adds its bias, or could: "last" axis, "channels"; empty for a kind of which that is not known."""
    bias = _bias(module)
    if bias is not None and bias.dim() != 1:
        return ""
    if isinstance(module, nn.Linear | Conv1D) or (bias is not None and _is_norm(module)):
        return "last"
    return "channels" if isinstance(module, CONVS) or (bias is not None and isinstance(module, CHANNELS)) else ""


def _is_norm(module: nn.Module) -> bool:
    """torch's LayerNorm, or a family's own: no children, a weight of the bias's shape, and a class that is called a norm."""
    weight, bias = module._parameters.get("weight"), _bias(module)
    alike = weight is not None and bias is not None and weight.shape == bias.shape and not module._modules
    own = alike and type(module).__name__.endswith("Norm") and not isinstance(module, CHANNELS)
    return isinstance(module, nn.LayerNorm) or own


def _bias(module: nn.Module) -> Tensor | None:
    """The module's own bias. A child module may be called "bias" too: that is none."""
    bias = module._parameters.get("bias")
    return bias if isinstance(bias, Tensor) else None


def _others(module: nn.Module) -> list[str]:
    """Biases under other names (`q_bias`, `in_proj_bias`): how they are used only the module knows."""
    return [name for name, p in module._parameters.items() if name.endswith("_bias") and p is not None]


def _width(module: nn.Module) -> int:
    bias = _bias(module)
    found = bias.shape[0] if bias is not None else next(getattr(module, n) for n in WIDTHS if hasattr(module, n))
    return int(found)


def _without(what: str) -> UnsupportedSiteError:
    return UnsupportedSiteError(
        what, hint="add_biases: true gives linear modules one, or choose modules that have one with target_modules"
    )


def _unknown(path: str, module: nn.Module) -> UnsupportedSiteError:
    return UnsupportedSiteError(
        f"{path}: where a {type(module).__name__} adds its bias is not known", hint="leave it out with exclude_modules"
    )
