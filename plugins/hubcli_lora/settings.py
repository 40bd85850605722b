"""The config of a LoRA adapter, read and checked. Torch-free: an installer reads it too.

Each key of peft's LoraConfig is either read here, known to change nothing in a trained adapter, or refused by its name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hubcli.errors import ConfigKeyError
from hubcli.method import Targets, meant, pattern_value

ALL_LINEAR = "all-linear"

READ = {
    *("r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "lora_bias", "bias", "modules_to_save"),
    *("init_lora_weights", "megatron_core"),
}
# What has no part in a trained adapter's delta: bookkeeping, and how its training began without touching the base.
WITHOUT_EFFECT = {
    *(
        "peft_type",
        "peft_version",
        "task_type",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "auto_mapping",
    ),
    *("fan_in_fan_out", "eva_config", "corda_config", "lora_ga_config", "loftq_config", "qalora_group_size"),
    "ensure_weight_tying",
}
# Starts that leave the base's own weights as they are; the others (PiSSA, OLoRA, LoftQ, …) change the base as well.
KEEPS_BASE = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """A LoRA config. `rank_pattern` and `alpha_pattern` are (pattern, value) pairs, the first that fits counts."""

    targets: Targets
    r: int = 8
    alpha: float = 8
    rank_pattern: tuple[tuple[str, int], ...] = ()
    alpha_pattern: tuple[tuple[str, float], ...] = ()
    rslora: bool = False
    dora: bool = False
    lora_bias: bool = False
    base_bias: bool = False
    dropout: float = 0.0
    init: bool | str = True

    @property
    def all_linear(self) -> bool:
        """Whether the targets are every linear module but the head."""
        return isinstance(self.targets.include, str) and self.targets.include.lower() == ALL_LINEAR

    def rank(self, path: str) -> int:
        """The rank at a module."""
        return pattern_value(self.rank_pattern, path, self.r)

    def scale(self, path: str) -> float:
        """What B(Ax) is multiplied by at a module."""
        rank = self.rank(path)
        alpha = pattern_value(self.alpha_pattern, path, self.alpha)
        return float(alpha / rank**0.5 if self.rslora else alpha / rank)


def problems(config: Mapping[str, Any]) -> list[str]:
    """The keys that this plugin can't honour, one sentence each."""
    found = []
    for key, value in config.items():
        if key in READ or key in WITHOUT_EFFECT or _empty(value):
            continue
        found.append(f"{key}: {_shown(value)} is not supported{meant(key, READ)}")
    if config.get("ensure_weight_tying"):
        found.append("ensure_weight_tying: true is not supported")
    if config.get("megatron_core") not in (None, "megatron.core"):
        found.append(f"megatron_core: {_shown(config['megatron_core'])} is not supported, nothing is imported by name")
    if not any(config.get("init_lora_weights", True) is known for known in KEEPS_BASE[:3]) and (
        config["init_lora_weights"] not in KEEPS_BASE[3:]
    ):
        found.append(
            f"init_lora_weights: {_shown(config['init_lora_weights'])} also changes the base's weights; "
            "convert the adapter with peft (path_initial_model_for_weight_conversion)"
        )
    if config.get("bias", "none") not in ("none", "lora_only"):
        found.append(f"bias: {_shown(config['bias'])} is not supported (none and lora_only are)")
    if config.get("lora_bias") and config.get("use_dora"):
        found.append("lora_bias: not possible together with use_dora")
    return found


def read_settings(config: Mapping[str, Any]) -> LoraSettings:
    """The settings of a config.

    Raises:
        ConfigKeyError: keys that can't be honoured, all in one message; a pattern that is refused; a value of a wrong type.
    """
    found = problems(config)
    if found:
        raise ConfigKeyError(f"LoRA config: {'; '.join(found)}")
    if config.get("target_modules") is None:
        raise ConfigKeyError("target_modules: not given, and nothing else says where this LoRA belongs")
    skip = _names(config, "modules_to_save") or ()
    layers = config.get("layers_to_transform")
    targets = Targets(
        include=_names_or_pattern(config, "target_modules"),
        exclude=_names_or_pattern(config, "exclude_modules"),
        layers=None if layers is None else tuple(layers) if isinstance(layers, list) else (int(layers),),
        layers_pattern=_names(config, "layers_pattern"),
        skip=tuple(skip),
    )
    settings = LoraSettings(
        targets=targets,
        r=_number(config, "r", 8, int),
        alpha=_number(config, "lora_alpha", 8, float),
        rank_pattern=_pattern(config, "rank_pattern", int),
        alpha_pattern=_pattern(config, "alpha_pattern", float),
        rslora=bool(config.get("use_rslora")),
        dora=bool(config.get("use_dora")),
        lora_bias=bool(config.get("lora_bias")),
        base_bias=config.get("bias") == "lora_only",
        dropout=_number(config, "lora_dropout", 0.0, float),
        init=config.get("init_lora_weights", True),
    )
    if not settings.all_linear:
        targets.validate()
    for key, _ in (*settings.rank_pattern, *settings.alpha_pattern):
        pattern_value(((key, 0),), "", 0)
    ranks = [settings.r, *(rank for _, rank in settings.rank_pattern)]
    if min(ranks) < 1:
        raise ConfigKeyError(f"r: a rank must be at least 1, found {min(ranks)}")
    if not 0 <= settings.dropout < 1:
        raise ConfigKeyError(f"lora_dropout: expected a number from 0, below 1, found {settings.dropout:g}")
    return settings


def _empty(value: Any) -> bool:
    return value is None or value is False or value in ([], {}, "")


def _shown(value: Any) -> str:
    return repr(value)[:60]


def _number(config: Mapping[str, Any], key: str, default: Any, kind: Callable[[Any], Any]) -> Any:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigKeyError(f"{key}: expected a number, found {_shown(value)}")
    return kind(value)


def _pattern(config: Mapping[str, Any], key: str, kind: Callable[[Any], Any]) -> tuple[tuple[str, Any], ...]:
    given = config.get(key) or {}
    if not isinstance(given, dict):
        raise ConfigKeyError(f"{key}: expected an object, found {_shown(given)}")
    return tuple((name, _number({f"{key}.{name}": value}, f"{key}.{name}", 0, kind)) for name, value in given.items())


def _names(config: Mapping[str, Any], key: str) -> tuple[str, ...]:
    given = config.get(key) or ()
    given = (given,) if isinstance(given, str) else given
    if not isinstance(given, list | tuple | set) or not all(isinstance(name, str) for name in given):
        raise ConfigKeyError(f"{key}: expected names, found {_shown(given)}")
    return tuple(sorted(given)) if isinstance(given, set) else tuple(given)


def _names_or_pattern(config: Mapping[str, Any], key: str) -> str | tuple[str, ...]:
    given = config.get(key)
    return given if isinstance(given, str) else _names(config, key)
