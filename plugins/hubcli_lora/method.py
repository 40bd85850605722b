"""LoRA: delta = scale · B(A x), for Linear, Conv1D, Embedding and convolutions; DoRA, rsLoRA, biases.

Shapes: A (r, in), B (out, r); embeddings A (r, rows), B (width, r); convolutions A (r, in, *kernel), B (out, r, 1, …).
DoRA (arXiv 2402.09353): factor = magnitude / ‖W + scale · BA‖, delta = (factor − 1)(value − bias) + factor · scale · B(A x).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hubcli.errors import ConfigKeyError, UnsupportedSiteError
from hubcli.method import Groups, HubcliWarning, Leaf, Merged, MergeOptions, MergePart, Method, Site, meant
from hubcli_lora import adapterhub, folding, maths, merging, products, to_adapterhub
from hubcli_lora.check import KEYS
from hubcli_lora.settings import ALL_LINEAR, LoraSettings, read_settings

if TYPE_CHECKING:
    from hubcli.families import Structure


class Lora(Method[LoraSettings]):
    """The method `lora`."""

    name: ClassVar[str] = "lora"
    formats: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "peft": {p: ending for ending, p in KEYS.items()},
        "adapterhub": adapterhub.TABLE,
    }
    exports: ClassVar[Mapping[str, str]] = {"gguf": "hubcli_lora.gguf:write"}

    def configure(self, config: Mapping[str, Any]) -> LoraSettings:
        """Read a config with peft's keys; errors as `read_settings`."""
        return read_settings(config)

    def defaults(self, structure: Structure, config: Mapping[str, Any]) -> dict[str, Any]:
        """peft's default targets of the model's family, where the config names none."""
        if config.get("target_modules") is not None:
            _warn_idle(structure, read_settings(config).targets.idle(structure.modules))
            return dict(config)
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as known

        family = str(getattr(getattr(structure.model, "config", None), "model_type", ""))
        if family not in known:
            raise ConfigKeyError(
                f"target_modules: there is no default for a model of type '{family}'", hint="name them"
            )
        return {**config, "target_modules": known[family]}

    def translated(
        self, format: str, config: dict[str, Any], tensors: dict[str, dict[str, Tensor]]
    ) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """AdapterHub's config and tensors as peft's; errors as `hubcli_lora.adapterhub.translated`."""
        return adapterhub.translated(config, tensors) if format == "adapterhub" else (config, tensors)

    def gathered(
        self,
        structure: Structure,
        settings: LoraSettings,
        format: str,
        config: Mapping[str, Any],
        sites: Mapping[Site, Mapping[str, Tensor]],
    ) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """AdapterHub's files in its own terms; errors as `hubcli_lora.to_adapterhub.gathered`."""
        if format != "adapterhub":
            return super().gathered(structure, settings, format, config, sites)
        return to_adapterhub.gathered(structure, settings, sites)

    def sites(self, structure: Structure, settings: LoraSettings) -> Sequence[Site]:
        """The output of every targeted module."""
        paths = _linear(structure, settings) if settings.all_linear else structure.matching(settings.targets)
        return [Site(path) for path in paths if maths.kind_of(structure.modules[path]) is not None]

    def claims(self, path: str, settings: LoraSettings) -> bool:
        """Whether `target_modules` names this module."""
        return settings.all_linear or settings.targets.match(path)

    def shapes(self, site: Site, module: nn.Module, settings: LoraSettings) -> dict[str, tuple[int, ...]]:
        """The tensors of one site; refuses what peft refuses as well."""
        kind = maths.kind_of(module)
        if kind is None:
            raise UnsupportedSiteError(f"{site.path}: LoRA can't adapt a {type(module).__name__}")
        r, (a, b) = settings.rank(site.path), maths.HALVES[kind]
        if kind == "conv":
            shapes, out = maths.conv_shapes(site, module, r)
        else:
            rows, out = maths.sizes(module)
            shapes = {a: (r, rows), b: (out, r)}
        if settings.lora_bias:
            if kind == "embedding":
                raise UnsupportedSiteError(f"{site.path}: lora_bias is not defined for an embedding")
            shapes["lora_bias"] = (out,)
        if settings.dora:
            maths.check_dora(site, module)
            shapes["magnitude"] = (1, out, *(1,) * maths.spatial(module)) if kind == "conv" else (out,)
        if settings.base_bias and getattr(module, "bias", None) is not None:
            shapes["bias"] = (out,)
        return shapes

    def fresh(self, site: Site, module: nn.Module, settings: LoraSettings) -> dict[str, Tensor]:
        """A random, B zero (embeddings: A zero, B random), as peft starts."""
        made = {name: torch.zeros(shape) for name, shape in self.shapes(site, module, settings).items()}
        r = settings.rank(site.path)
        if "embedding_B" in made:
            nn.init.normal_(made["embedding_B"])
        elif settings.init == "gaussian":
            nn.init.normal_(made["lora_A"], std=1 / r)
        elif settings.init in (True, None):
            nn.init.kaiming_uniform_(made["lora_A"], a=math.sqrt(5))
        else:
            raise ConfigKeyError(f"init_lora_weights: {settings.init!r} is not supported for a fresh adapter")
        if "lora_bias" in made:
            nn.init.zeros_(made["lora_bias"])
        if "bias" in made:
            assert isinstance(module.bias, Tensor)
            made["bias"].copy_(module.bias.detach())
        if "magnitude" in made:
            weight = maths.dense_weight(module, made["magnitude"].dtype)
            made["magnitude"].copy_(maths.row_norm(weight).view(made["magnitude"].shape))
        return made

    def leaf(
        self, site: Site, module: nn.Module, settings: LoraSettings, tensors: dict[str, Tensor], trainable: bool
    ) -> Leaf:
        """Halves named A and B whatever the module; what is constant while frozen is computed here, once."""
        kind = maths.kind_of(module)
        assert kind is not None
        a, b = maths.HALVES[kind]
        named = {"A": tensors[a], "B": tensors[b]}
        scale = settings.scale(site.path)
        named["scale"] = torch.tensor(scale, dtype=named["B"].dtype, device=named["B"].device)
        named |= {name: tensors[name] for name in ("lora_bias", "magnitude", "bias") if name in tensors}
        leaf = Leaf(self, kind, named, {"dropout": settings.dropout, "scale": scale}, trainable)
        if not trainable:
            maths.settle(leaf, module)
            products.prepare(leaf)
        return leaf

    def delta(self, leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor) -> Tensor:
        """scale · B(A x), with DoRA's factor and the biases where the leaf has them."""
        t = leaf.tensors
        dropped = leaf.trainable and module.training and leaf.constants["dropout"] > 0
        given = x
        if dropped and leaf.form != "embedding":
            x = F.dropout(x, leaf.constants["dropout"])
        added = maths.product(leaf, module, x)
        if "factor" in t or "magnitude" in t:
            factor = t["factor"] if "factor" in t else maths.dora_factor(leaf, module)
            base = maths.dropped_base(module, x) if dropped and given is not x else maths.without_bias(module, value)
            added = (factor - 1) * base.to(added.dtype) + factor * added
        shift = t["shift"] if "shift" in t else maths.constant_shift(leaf, module)
        if shift is not None:
            added = added + maths.outward(module, shift)
        return added.to(value.dtype)

    def apply(self, leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor) -> Tensor:
        """One fused multiply-add for a plain frozen leaf."""
        if leaf.ready is None or not products.alike(x, leaf.ready[0], value):
            return value + self.delta(leaf, module, x, value)
        return products.added(leaf, module, x, value)

    def weight_delta(
        self, leaf: Leaf, site: Site, module: nn.Module, weight: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None] | None:
        """scale · BA, with DoRA's factor and the biases; as `hubcli_lora.folding.weight_delta`."""
        del site
        return folding.weight_delta(leaf, module, weight, bias)

    def fold(
        self, leaf: Leaf, site: Site, module: nn.Module, weight: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None] | None:
        """The same in one pass over the weight; as `hubcli_lora.folding.fold`."""
        del site
        return folding.fold(leaf, module, weight, bias)

    def merge(self, leaves: Sequence[Leaf], weights: Sequence[float]) -> Leaf | None:
        """One LoRA of the ranks' sum: A stacked, B side by side, each times its weight and scale."""
        first = leaves[0]
        if first.form == "conv" or any("factor" in leaf.tensors for leaf in leaves):
            return None
        a = torch.cat([leaf.tensors["A"] for leaf in leaves], 0)
        halves = [leaf.tensors["B"].t() * (leaf.tensors["scale"] * w) for leaf, w in zip(leaves, weights, strict=True)]
        b = torch.cat(halves, 0).t()  # laid out as it is multiplied by
        merged = {"A": a, "B": b, "scale": torch.ones_like(first.tensors["scale"])}
        shifts = [leaf.tensors["shift"] * w for leaf, w in zip(leaves, weights, strict=True) if "shift" in leaf.tensors]
        if shifts:
            merged["shift"] = torch.stack(shifts).sum(0)
        return products.prepare(Leaf(self, first.form, merged, {"dropout": 0.0, "scale": 1.0}))

    def chain(self, leaves: Sequence[Leaf]) -> Leaf | None:
        """A stack of LoRAs is the sum of their deltas."""
        return self.merge(leaves, [1.0] * len(leaves))

    def bank(self, leaves: Sequence[Leaf | None]) -> Leaf | None:
        """Plain ones at linear modules side by side; others have no bank."""
        known = [leaf for leaf in leaves if leaf is not None]
        plain = known[0].form == "linear" and all(len(leaf.tensors) == 3 for leaf in known)
        return products.banked(self, leaves) if plain else None

    def delta_by_group(self, leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor) -> Tensor:
        """Two products over all groups."""
        del module
        return products.delta_by_group(leaf, x).to(value.dtype)

    def grouped(self, leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor, groups: Groups) -> Tensor:
        """The same, added in place."""
        return products.added_by_group(leaf, module, x, value, groups)

    def merged(self, structure: Structure, parts: Sequence[MergePart], options: MergeOptions) -> Merged:
        """Ranks side by side, cut by SVD, or pruned; as `hubcli_lora.merging.merged`."""
        return merging.merged(structure, parts, options)


def _warn_idle(structure: Structure, idle: Sequence[str]) -> None:
    """Say which of the listed targets are no modules here: a list for several families has some, a slip as well."""
    for name in idle:
        near = meant(name, {path.rpartition(".")[2] for path in structure.modules})
        text = f"target_modules: '{name}' names no module of this {structure.base_class}{near}"
        warnings.warn(text, HubcliWarning, stacklevel=6)


def _linear(structure: Structure, settings: LoraSettings) -> tuple[str, ...]:
    """What peft's "all-linear" means: every linear module but the language-model head or the classifier."""
    known = structure.head_modules()
    out = structure.output_embeddings()

    def fits(path: str, module: nn.Module) -> bool:
        inside = any(path == head or path.startswith(f"{head}.") for head in (*known, *settings.targets.skip))
        excluded = settings.targets.exclude
        return (
            isinstance(module, maths.KINDS["linear"])
            and module is not out
            and not inside
            and not (bool(excluded) and not type(settings.targets)(".*", excluded).match(path))
        )

    return structure.kept(
        (ALL_LINEAR, settings.targets), lambda: tuple(p for p, m in structure.modules.items() if fits(p, m))
    )
