"""The config of a bottleneck adapter, read and checked. Torch-free: an installer reads it too.

The keys are AdapterHub's. Each is read here, known to change nothing, or refused by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hubcli.errors import ConfigKeyError
from hubcli.method import meant
from hubcli_bottleneck.phm_settings import DEFAULTS as PHM_DEFAULTS
from hubcli_bottleneck.phm_settings import PhmSettings, read_phm

ACTIVATIONS = ("relu", "gelu", "gelu_new", "swish", "silu", "tanh", "sigmoid", "leakyrelu", "mish", "relu6", "linear")
INITS = ("bert", "mam_adapter")
# AdapterHub's defaults: its SeqBnConfig, which it also calls pfeiffer.
DEFAULTS: dict[str, Any] = {
    "mh_adapter": False,
    "output_adapter": True,
    "is_parallel": False,
    "reduction_factor": 16,
    "non_linearity": "relu",
    "original_ln_before": True,
    "original_ln_after": True,
    "residual_before_ln": True,
    "scaling": 1.0,
    "dropout": 0.0,
    "leave_out": [],
    "init_weights": "bert",
    "init_weights_seed": None,
    **PHM_DEFAULTS,
}
_HOULSBY = {"mh_adapter": True, "original_ln_before": False, "non_linearity": "swish"}
_PARALLEL = {
    "is_parallel": True,
    "original_ln_before": False,
    "reduction_factor": 2,
    "init_weights": "mam_adapter",
    "scaling": 4.0,
}
_SCALED = {**_PARALLEL, "scaling": "learned"}
_COMPACTER = {**_HOULSBY, "phm_layer": True, "reduction_factor": 32, "non_linearity": "gelu"}
VARIANTS: dict[str, dict[str, Any]] = {
    "seq_bn": {},
    "pfeiffer": {},
    "double_seq_bn": _HOULSBY,
    "houlsby": _HOULSBY,
    "par_bn": _PARALLEL,
    "parallel": _PARALLEL,
    "scaled_par_bn": _SCALED,
    "scaled_parallel": _SCALED,
    "compacter": _COMPACTER,
    "compacter++": {**_COMPACTER, "mh_adapter": False},
}
# Keys that belong to what is refused, and mean nothing without it. AdapterHub's first version wrote `invertible_adapter` into
# task adapters too, which have none: where there are any, their tensors have no place here.
WITHOUT_EFFECT = {"inv_adapter_reduction_factor", "architecture", "invertible_adapter"}
# The only value of a key that this method honours, and what others would mean.
ONLY: dict[str, tuple[tuple[Any, ...], str]] = {
    "inv_adapter": ((None, False), "invertible adapters are"),
    "ln_before": ((False, None), "an adapter's own layer norm is"),
    "ln_after": ((False, None), "an adapter's own layer norm is"),
    "adapter_residual_before_ln": ((False, None), "an adapter's own layer norm is"),
    "use_gating": ((False, None), "gates are"),
    "stochastic_depth": ((0, None), "stochastic depth is"),
    "cross_adapter": ((False, None), "adapters after cross-attention are"),
    "original_ln_after": ((True,), "leaving out the layer's own norm is"),
    "residual_before_ln": ((True,), "a residual taken after the norm is"),
}
Problem = tuple[str, str]


@dataclass(frozen=True, slots=True)
class BottleneckSettings:
    """A bottleneck config. `factors` are (layer index as text or "default", reduction factor) pairs."""

    attention: bool
    ffn: bool
    parallel: bool
    after_norm: bool
    factors: tuple[tuple[str, float], ...]
    activation: str
    scaling: float | str
    dropout: float
    leave_out: tuple[int, ...]
    init: str
    phm: PhmSettings | None = None

    def factor(self, layer: int) -> float:
        """The reduction factor of one layer.

        Raises:
            ConfigKeyError: the config has none for it.
        """
        known = dict(self.factors)
        if str(layer) not in known and "default" not in known:
            raise ConfigKeyError(f"reduction_factor: none for layer {layer}, and no default")
        return known.get(str(layer), known.get("default", 0.0))


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the defaults of its variant."""
    given = dict(config)
    variant = given.pop("variant", "seq_bn")
    if variant not in VARIANTS:
        raise ConfigKeyError(f"variant: expected one of {', '.join(VARIANTS)}, found {variant!r:.60}")
    return {**DEFAULTS, **VARIANTS[variant], **given}


def problems(config: Mapping[str, Any]) -> list[str]:
    """What this method can't honour, one sentence a key."""
    found = []
    for key, value in config.items():
        if key in ONLY:
            kept, what = ONLY[key]
            if not any(value is one or (value == one and not isinstance(value, bool)) for one in kept):
                found.append(f"{key}: {value!r:.60}: {what} not supported")
        elif key not in DEFAULTS and key not in WITHOUT_EFFECT and key not in ("variant", "modules_to_save"):
            found.append(f"{key}: {value!r:.60} is not supported{meant(key, (*DEFAULTS, 'variant'))}")
    return found


def read_settings(config: Mapping[str, Any]) -> BottleneckSettings:
    """The settings of a config.

    Raises:
        ConfigKeyError: keys that can't be honoured, all in one message; a value of a wrong type.
    """
    found = problems(config)
    if found:
        raise ConfigKeyError(f"bottleneck config: {'; '.join(found)}")
    full = completed({**config, "phm_layer": config.get("phm_layer") or False} if "phm_layer" in config else config)
    flags = {key: _flag(full, key) for key in ("mh_adapter", "output_adapter", "is_parallel", "original_ln_before")}
    if not flags["mh_adapter"] and not flags["output_adapter"]:
        raise ConfigKeyError("output_adapter: false, and so is mh_adapter: there is nothing to adapt")
    return BottleneckSettings(
        attention=flags["mh_adapter"],
        ffn=flags["output_adapter"],
        parallel=flags["is_parallel"],
        after_norm=flags["original_ln_before"] and not flags["is_parallel"],
        factors=_factors(full["reduction_factor"]),
        activation=_one_of(full, "non_linearity", ACTIVATIONS),
        scaling=_scaling(full["scaling"]),
        dropout=_dropout(full["dropout"]),
        leave_out=_layers(full["leave_out"]),
        init=_one_of(full, "init_weights", INITS),
        phm=read_phm(full),
    )


def check(config: dict[str, Any], tensors: dict[str, tuple[str, tuple[int, ...]]]) -> list[Problem]:
    """All that is wrong, as (error id, sentence), from the config and the tensors' names, dtypes and shapes alone."""
    try:
        read_settings(config)
    except ConfigKeyError as error:
        return [("E_CONFIG_KEY", error.message)]
    if not tensors:
        return [("E_WEIGHTS", "no tensor in the file")]
    return [
        ("E_WEIGHTS", f"{name}: expected floating-point weights, found {dtype}")
        for name, (dtype, _) in tensors.items()
        if not dtype.startswith(("F", "BF"))
    ]


def _flag(config: Mapping[str, Any], key: str) -> bool:
    if not isinstance(config[key], bool):
        raise ConfigKeyError(f"{key}: expected true or false, found {config[key]!r:.60}")
    return bool(config[key])


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigKeyError(f"{key}: expected a number, found {value!r:.60}")
    return float(value)


def _dropout(value: Any) -> float:
    number = _number("dropout", value)
    if not 0 <= number < 1:
        raise ConfigKeyError(f"dropout: expected a number from 0, below 1, found {number:g}")
    return number


def _one_of(config: Mapping[str, Any], key: str, known: tuple[str, ...]) -> str:
    value = str(config[key]).lower()
    if value not in known:
        raise ConfigKeyError(f"{key}: expected one of {', '.join(known)}, found {config[key]!r:.60}")
    return value


def _factors(value: Any) -> tuple[tuple[str, float], ...]:
    pairs = value.items() if isinstance(value, Mapping) else (("default", value),)
    found = tuple((str(layer), _number("reduction_factor", factor)) for layer, factor in pairs)
    if any(factor <= 0 for _, factor in found):
        raise ConfigKeyError(f"reduction_factor: expected numbers above 0, found {value!r:.60}")
    return found


def _scaling(value: Any) -> float | str:
    return value if value in ("learned", "channel") else _number("scaling", value)


def _layers(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or any(isinstance(i, bool) or not isinstance(i, int) for i in value):
        raise ConfigKeyError(f"leave_out: expected layer indices, found {value!r:.60}")
    return tuple(value)
