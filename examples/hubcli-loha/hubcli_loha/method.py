"""LoHa: delta = alpha / r · ((A1·B1) ∘ (A2·B2))·x at linear layers, with A (out, r) and B (r, in)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hubcli.errors import ConfigKeyError, UnsupportedSiteError
from hubcli.method import Leaf, Method, Site, Targets

if TYPE_CHECKING:
    from hubcli.families import Structure

NAMES = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
READ = ("target_modules", "exclude_modules", "modules_to_save", "r", "alpha")
# peft's bookkeeping, how it starts, and what only convolutions need; any other key must be empty
WITHOUT_EFFECT = {
    *("peft_type", "peft_version", "task_type", "base_model_name_or_path", "revision", "inference_mode"),
    *("auto_mapping", "init_weights", "use_effective_conv2d"),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """A LoHa config."""

    targets: Targets
    r: int
    scale: float


class LoHa(Method[Settings]):
    """The method `loha`."""

    name: ClassVar[str] = "loha"
    formats: ClassVar[Mapping[str, Mapping[str, str]]] = {"peft": {name: name for name in NAMES}}

    def configure(self, config: Mapping[str, Any]) -> Settings:
        """Read a config with peft's keys."""
        for key, value in config.items():
            if key not in READ and key not in WITHOUT_EFFECT and value not in (None, False, 0, "", [], {}):
                raise ConfigKeyError(f"{key}: {value!r:.60} is not supported")
        if config.get("target_modules") is None or str(config["target_modules"]).lower() == "all-linear":
            raise ConfigKeyError(f"target_modules: expected names, found {config.get('target_modules')!r:.60}")
        r, alpha = config.get("r", 8), config.get("alpha", 8)
        if isinstance(r, bool) or not isinstance(r, int) or r < 1 or not isinstance(alpha, int | float):
            raise ConfigKeyError(f"r, alpha: expected numbers, r above 0, found {r!r:.60} and {alpha!r:.60}")
        include, exclude, skip = (v if isinstance(v := config.get(k) or (), str) else tuple(v) for k in READ[:3])
        targets = Targets(include, exclude, skip=(skip,) if isinstance(skip, str) else skip)
        targets.validate()
        return Settings(targets, r, alpha / r)

    def defaults(self, structure: Structure, config: Mapping[str, Any]) -> dict[str, Any]:
        """peft's targets of the model's family, where the config names none."""
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_LOHA_TARGET_MODULES_MAPPING as FAMILIES

        family = str(getattr(getattr(structure.model, "config", None), "model_type", ""))
        return {"target_modules": FAMILIES[family], **config} if family in FAMILIES else dict(config)

    def sites(self, structure: Structure, settings: Settings) -> Sequence[Site]:
        """The targets."""
        return [Site(path) for path in structure.matching(settings.targets)]

    def claims(self, path: str, settings: Settings) -> bool:
        """Whether `target_modules` names this module."""
        return settings.targets.match(path)

    def shapes(self, site: Site, module: nn.Module, settings: Settings) -> dict[str, tuple[int, ...]]:
        """Two pairs of factors."""
        if not isinstance(module, nn.Linear):
            raise UnsupportedSiteError(
                f"{site.path}: this LoHa adapts nn.Linear alone, found a {type(module).__name__}"
            )
        pair = ((module.out_features, settings.r), (settings.r, module.in_features))
        return dict(zip(NAMES, (*pair, *pair), strict=True))

    def fresh(self, site: Site, module: nn.Module, settings: Settings) -> dict[str, Tensor]:
        """As peft starts: B2 zero, the others He uniform."""
        made = {name: torch.zeros(shape) for name, shape in self.shapes(site, module, settings).items()}
        for name in NAMES[:3]:
            nn.init.kaiming_uniform_(made[name], a=math.sqrt(5))
        return made

    def leaf(
        self, site: Site, module: nn.Module, settings: Settings, tensors: dict[str, Tensor], trainable: bool
    ) -> Leaf:
        """The factors and the scale."""
        scale = torch.tensor(settings.scale).to(tensors[NAMES[0]])
        return Leaf(self, "loha", {**tensors, "scale": scale}, trainable=trainable)

    def delta(self, leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor) -> Tensor:
        """scale · ((A1·B1) ∘ (A2·B2))·x."""
        a1, b1, a2, b2 = (leaf.tensors[name] for name in NAMES)
        return F.linear(x.to(a1.dtype), (a1 @ b1) * (a2 @ b2) * leaf.tensors["scale"]).to(value.dtype)

    def weight_delta(
        self, leaf: Leaf, site: Site, module: nn.Module, weight: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """scale · (A1·B1) ∘ (A2·B2)."""
        a1, b1, a2, b2 = (leaf.tensors[name] for name in NAMES)
        return (a1 @ b1) * (a2 @ b2) * leaf.tensors["scale"], None
