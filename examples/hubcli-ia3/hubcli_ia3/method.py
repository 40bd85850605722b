"""(IA)³: delta = (l − 1) · value, at the output of keys and values, at the input of the feed-forward's second projection.

Shapes, as in peft: l is (out, 1) at an output, (1, in) at an input, (1, channels, 1, …) at a convolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from hubcli.errors import ConfigKeyError, UnsupportedSiteError
from hubcli.method import Leaf, Method, Site, Targets
from hubcli_ia3 import adapterhub

if TYPE_CHECKING:
    from hubcli.families import Structure

READ = ("target_modules", "exclude_modules", "feedforward_modules", "modules_to_save", "init_ia3_weights")
# peft's bookkeeping, and what only its merging needs
WITHOUT_EFFECT = (
    *("peft_type", "peft_version", "task_type", "base_model_name_or_path", "revision", "inference_mode"),
    *("auto_mapping", "fan_in_fan_out"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """An IA3 config: what is scaled, and which of it at its input."""

    targets: Targets
    feedforward: str | tuple[str, ...]
    init: bool = True

    def at_input(self, path: str) -> bool:
        """Whether a module's input is scaled; endings without a dot count, as in peft."""
        if isinstance(self.feedforward, str):
            return Targets(self.feedforward).match(path)
        return path.endswith(self.feedforward)


class IA3(Method[Settings]):
    """The method `ia3`."""

    name: ClassVar[str] = "ia3"
    formats: ClassVar[Mapping[str, Mapping[str, str]]] = {"peft": {"ia3_l": "ia3_l"}, "adapterhub": adapterhub.TABLE}

    def translated(
        self, format: str, config: dict[str, Any], tensors: dict[str, dict[str, Tensor]]
    ) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """AdapterHub's config and tensors as peft's."""
        return adapterhub.translated(config, tensors) if format == "adapterhub" else (config, tensors)

    def configure(self, config: Mapping[str, Any]) -> Settings:
        """Read a config with peft's keys."""
        for key, value in config.items():
            if key not in READ and key not in WITHOUT_EFFECT and value not in (None, False, "", [], {}):
                raise ConfigKeyError(f"{key}: {value!r:.60} is not supported")
        for key in ("target_modules", "feedforward_modules"):
            if config.get(key) is None:
                raise ConfigKeyError(f"{key}: not given, and nothing else says where this IA3 belongs")
        if str(config["target_modules"]).lower() == "all-linear":
            raise ConfigKeyError("target_modules: 'all-linear' is not supported", hint="name the modules")
        given = {key: _names(config, key) for key in READ[:4]}
        skip = given["modules_to_save"]
        targets = Targets(
            given["target_modules"], given["exclude_modules"], skip=(skip,) if isinstance(skip, str) else skip
        )
        targets.validate()
        if isinstance(given["feedforward_modules"], str):
            Targets(given["feedforward_modules"]).validate()
        return Settings(targets, given["feedforward_modules"], config.get("init_ia3_weights", True) is not False)

    def defaults(self, structure: Structure, config: Mapping[str, Any]) -> dict[str, Any]:
        """peft's targets of the model's family, where the config names none."""
        from peft.utils import constants

        family = str(getattr(getattr(structure.model, "config", None), "model_type", ""))
        done = dict(config)
        for key, part in (("target_modules", "TARGET"), ("feedforward_modules", "FEEDFORWARD")):
            table = getattr(constants, f"TRANSFORMERS_MODELS_TO_IA3_{part}_MODULES_MAPPING")
            if done.get(key) is None and family in table:
                done[key] = table[family]
        return done

    def sites(self, structure: Structure, settings: Settings) -> Sequence[Site]:
        """The output of each target, or its input where it is one of `feedforward_modules`."""
        paths = [path for path in structure.matching(settings.targets) if _sizes(structure.modules[path])]
        return [Site(path, "input" if settings.at_input(path) else "output") for path in paths]

    def claims(self, path: str, settings: Settings) -> bool:
        """Whether `target_modules` names this module."""
        return settings.targets.match(path)

    def shapes(self, site: Site, module: nn.Module, settings: Settings) -> dict[str, tuple[int, ...]]:
        """One vector."""
        sizes = _sizes(module)
        if sizes is None:
            raise UnsupportedSiteError(f"{site.path}: IA3 can't scale a {type(module).__name__}")
        width = sizes[0 if site.port == "input" else 1]
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            return {"ia3_l": (1, width, *(1,) * (module.weight.dim() - 2))}
        return {"ia3_l": (1, width) if site.port == "input" else (width, 1)}

    def fresh(self, site: Site, module: nn.Module, settings: Settings) -> dict[str, Tensor]:
        """Ones."""
        if not settings.init:
            raise ConfigKeyError("init_ia3_weights: false would start from noise, a fresh adapter starts from nothing")
        return {name: torch.ones(shape) for name, shape in self.shapes(site, module, settings).items()}

    def leaf(
        self, site: Site, module: nn.Module, settings: Settings, tensors: dict[str, Tensor], trainable: bool
    ) -> Leaf:
        """The vector, flat where values end in the width."""
        vector = tensors["ia3_l"]
        return Leaf(self, "scale", {"l": vector if vector.dim() > 2 else vector.flatten()}, trainable=trainable)

    def delta(self, leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor) -> Tensor:
        """(l − 1) · value."""
        return (value * (leaf.tensors["l"] - 1)).to(value.dtype)

    def apply(self, leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor) -> Tensor:
        """l · value, at once."""
        return (value * leaf.tensors["l"]).to(value.dtype)

    def weight_delta(
        self, leaf: Leaf, site: Site, module: nn.Module, weight: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None] | None:
        """(l − 1) · the rows of the weight and the bias, or at the input its columns."""
        scale, into = leaf.tensors["l"].flatten() - 1, site.port == "input"
        if weight is None or (into and getattr(module, "groups", 1) > 1):
            return None
        axis = int(into != isinstance(module, Conv1D))
        rows = scale.view(*(1,) * axis, -1, *(1,) * (weight.dim() - axis - 1))
        return weight * rows, None if into or bias is None else bias * scale

    def merge(self, leaves: Sequence[Leaf], weights: Sequence[float]) -> Leaf | None:
        """l = 1 + Σ weight · (l − 1)."""
        given = [leaf.tensors["l"] for leaf in leaves]
        finer = [(vector.to(_finer(vector)) - 1) * weight for vector, weight in zip(given, weights, strict=True)]
        return Leaf(self, "scale", {"l": (1 + torch.stack(finer).sum(0)).to(given[0].dtype)})

    def chain(self, leaves: Sequence[Leaf]) -> Leaf | None:
        """A stack multiplies: the product of the vectors."""
        given = [leaf.tensors["l"] for leaf in leaves]
        product = reduce(torch.mul, [vector.to(_finer(vector)) for vector in given])
        return Leaf(self, "scale", {"l": product.to(given[0].dtype)})


def _finer(vector: Tensor) -> torch.dtype:
    return torch.promote_types(vector.dtype, torch.float32)


def _sizes(module: nn.Module) -> tuple[int, int] | None:
    """(in, out) of a module that can be scaled."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, Conv1D):
        return int(module.nx), int(module.nf)
    return (module.in_channels, module.out_channels) if isinstance(module, nn.Conv2d | nn.Conv3d) else None


def _names(config: Mapping[str, Any], key: str) -> str | tuple[str, ...]:
    given = config.get(key) or ()
    if isinstance(given, str):
        return given
    if not isinstance(given, list | tuple | set) or not all(isinstance(name, str) for name in given):
        raise ConfigKeyError(f"{key}: expected names, found {given!r:.60}")
    return tuple(sorted(given)) if isinstance(given, set) else tuple(given)
