"""The config of a prefix, read and checked. Torch-free: an installer reads it too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hubcli.errors import ConfigKeyError

ACTIVATIONS = ("tanh", "relu", "gelu", "silu", "swish", "linear")
DEFAULTS: dict[str, Any] = {
    "prefix_length": 30,
    "bottleneck_size": 512,
    "flat": False,
    "non_linearity": "tanh",
    "dropout": 0.0,
    "encoder_prefix": True,
    "cross_prefix": True,
    "leave_out": [],
    "position_shift": False,
    "mask_of_ones": False,
}
# keys of AdapterHub's configs with the only values that are supported
ONLY: dict[str, tuple[Any, ...]] = {"use_gating": (False,), "architecture": ("prefix_tuning", None)}
WITHOUT_EFFECT = ("shared_gating", "init_weights_seed", "modules_to_save", "task_type")
# keys of peft's configs
PEFT = ("num_virtual_tokens", "num_layers", "num_attention_heads", "token_dim")
PEFT_WITHOUT_EFFECT = (
    *(
        "peft_type",
        "peft_version",
        "auto_mapping",
        "base_model_name_or_path",
        "revision",
        "task_type",
        "inference_mode",
    ),
    *("encoder_hidden_size", "prefix_projection", "init_weights", "modules_to_save"),
)
TASKS = (None, "SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "CAUSAL_LM", "SEQ_2_SEQ_LM", "FEATURE_EXTRACTION")
Problem = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PrefixSettings:
    """`length` keys and values a layer; `hidden` is the width of the reparametrising network, 0 for none.

    `encoder` and `cross` say whether an encoder-decoder's encoder and cross-attention get one; with `shift` the tokens' positions
    begin after the prefix, as in peft. `ones`: made by AdapterHub's library, whose DistilBERT adds its mask's ones to a prefix's
    logits: adapters trained there expect it.
    """

    length: int
    hidden: int
    activation: str
    dropout: float
    encoder: bool
    cross: bool
    leave_out: tuple[int, ...]
    shift: bool
    ones: bool


def read_settings(config: Mapping[str, Any]) -> PrefixSettings:
    """The settings of a config.

    Raises:
        ConfigKeyError: keys that can't be honoured, all in one message; a value of a wrong type.
    """
    found = []
    for key, value in config.items():
        if key in ONLY and value not in ONLY[key]:
            found.append(f"{key}: {value!r:.60} is not supported")
        elif key not in (*DEFAULTS, *ONLY, *WITHOUT_EFFECT):
            found.append(f"{key}: unknown, expected one of {', '.join(DEFAULTS)}")
    if found:
        raise ConfigKeyError(f"prefix config: {'; '.join(found)}")
    full = {**DEFAULTS, **config}
    flat = _flag(full, "flat")
    activation = str(full["non_linearity"]).lower()
    if activation not in ACTIVATIONS:
        raise ConfigKeyError(f"non_linearity: expected one of {', '.join(ACTIVATIONS)}, found {activation!r:.60}")
    dropout, layers = full["dropout"], full["leave_out"]
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout <= 1:
        raise ConfigKeyError(f"dropout: expected a number from 0 to 1, found {dropout!r:.60}")
    if not isinstance(layers, list | tuple) or any(isinstance(i, bool) or not isinstance(i, int) for i in layers):
        raise ConfigKeyError(f"leave_out: expected layer indices, found {layers!r:.60}")
    return PrefixSettings(
        length=_count(full, "prefix_length"),
        hidden=0 if flat else _count(full, "bottleneck_size"),
        activation=activation,
        dropout=float(dropout),
        encoder=_flag(full, "encoder_prefix"),
        cross=_flag(full, "cross_prefix"),
        leave_out=tuple(layers),
        shift=_flag(full, "position_shift"),
        ones=_flag(full, "mask_of_ones"),
    )


def from_peft(config: Mapping[str, Any]) -> dict[str, Any]:
    """peft's config as this method's own: what peft saves is flat, a trained projection included.

    Raises:
        ConfigKeyError: a key that can't be honoured, by name.
    """
    for key, value in config.items():
        if key == "num_transformer_submodules" and value not in (1, 2, None):
            raise ConfigKeyError(f"{key}: {value!r:.60}: expected 1, or 2 for an encoder-decoder")
        if key not in (*PEFT, *PEFT_WITHOUT_EFFECT, "num_transformer_submodules"):
            raise ConfigKeyError(f"{key}: {value!r:.60} is not supported in peft's prefix config")
    if config.get("task_type") not in TASKS:
        raise ConfigKeyError(f"task_type: {config.get('task_type')!r:.60} is not supported for peft's prefixes")
    own = {"prefix_length": _count(config, "num_virtual_tokens"), "flat": True, "position_shift": True}
    if config.get("num_transformer_submodules") == 2:  # what peft 0.21 does of it: the decoder's self-attention alone
        own |= {"encoder_prefix": False, "cross_prefix": False}
    kept = {key: config[key] for key in ("task_type", "modules_to_save") if config.get(key)}
    return {**own, **kept}


def check(config: dict[str, Any], tensors: dict[str, tuple[str, tuple[int, ...]]]) -> list[Problem]:
    """All that is wrong, as (error id, sentence), from the config and the tensors' names, dtypes and shapes alone."""
    try:
        settings = read_settings(from_peft(config) if "num_virtual_tokens" in config else config)
    except ConfigKeyError as error:
        return [("E_CONFIG_KEY", error.message)]
    found = [
        ("E_WEIGHTS", f"{name}: expected floating-point weights, found {dtype}")
        for name, (dtype, _) in tensors.items()
        if not dtype.startswith(("F", "BF"))
    ]
    if "num_virtual_tokens" in config:
        shape = tensors.get("prompt_embeddings", ("", ()))[1]
        if len(shape) != 2 or shape[0] != settings.length:
            found.append(("E_WEIGHTS", f"prompt_embeddings: expected ({settings.length}, …), found {shape or 'none'}"))
    return found if tensors else [("E_WEIGHTS", "no tensor in the file")]


def _flag(config: Mapping[str, Any], key: str) -> bool:
    if not isinstance(config[key], bool):
        raise ConfigKeyError(f"{key}: expected true or false, found {config[key]!r:.60}")
    return bool(config[key])


def _count(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigKeyError(f"{key}: expected a whole number from 1, found {value!r:.60}")
    return value
