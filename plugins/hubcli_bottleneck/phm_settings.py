"""The config of Compacter's layers (Karimi Mahabadi et al. 2021, arXiv 2106.04647), read and checked. Torch-free.

The keys are AdapterHub's; they count where `phm_layer` is true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hubcli.errors import ConfigKeyError

# AdapterHub's defaults
DEFAULTS: dict[str, Any] = {
    "phm_layer": False,
    "phm_dim": 4,
    "phm_rank": 1,
    "phm_bias": True,
    "learn_phm": True,
    "factorized_phm_W": True,
    "shared_W_phm": False,
    "factorized_phm_rule": False,
    "shared_phm_rule": True,
    "phm_c_init": "normal",
    "phm_init_range": 0.0001,
    "hypercomplex_nonlinearity": "glorot-uniform",
}
WORDS = {
    "phm_c_init": ("normal", "uniform"),
    "hypercomplex_nonlinearity": ("phm", "glorot-normal", "glorot-uniform", "normal"),
}


@dataclass(frozen=True, slots=True)
class PhmSettings:
    """How each linear map is a sum of `dim` Kronecker products of a rule and a matrix W of rank `rank`."""

    dim: int
    rank: int
    bias: bool
    learns_rule: bool
    factorized_w: bool
    shared_w: bool
    factorized_rule: bool
    shared_rule: bool
    rule_init: str
    rule_range: float


def read_phm(config: Mapping[str, Any]) -> PhmSettings | None:
    """The settings of a complete config; None where its layers are plain.

    Raises:
        ConfigKeyError: a value that can't be honoured, by its key.
    """
    for key in ("phm_layer", "phm_bias", "learn_phm", "factorized_phm_W", "shared_W_phm", "factorized_phm_rule"):
        _check(config, key, isinstance(config[key], bool), "true or false")
    if not config["phm_layer"]:
        return None
    _check(config, "shared_phm_rule", isinstance(config["shared_phm_rule"], bool), "true or false")
    for key in ("phm_dim", "phm_rank"):
        whole = isinstance(config[key], int) and not isinstance(config[key], bool)
        _check(config, key, whole and 1 <= config[key] <= 1 << 16, "a number above 0")
    for key, words in WORDS.items():
        _check(config, key, config[key] in words, f"one of {', '.join(words)}")
    span = config["phm_init_range"]
    _check(
        config, "phm_init_range", isinstance(span, int | float) and not isinstance(span, bool) and span >= 0, "a number"
    )
    if config["shared_W_phm"] and not config["factorized_phm_W"]:
        raise ConfigKeyError(
            "shared_W_phm: true without factorized_phm_W: AdapterHub's library can't make such an adapter"
        )
    return PhmSettings(
        dim=config["phm_dim"],
        rank=config["phm_rank"],
        bias=config["phm_bias"],
        learns_rule=config["learn_phm"],
        factorized_w=config["factorized_phm_W"],
        shared_w=config["shared_W_phm"],
        factorized_rule=config["factorized_phm_rule"],
        shared_rule=config["shared_phm_rule"],
        rule_init=config["phm_c_init"],
        rule_range=float(span),
    )


def _check(config: Mapping[str, Any], key: str, right: bool, expected: str) -> None:
    if not right:
        raise ConfigKeyError(f"{key}: expected {expected}, found {config[key]!r:.60}")
