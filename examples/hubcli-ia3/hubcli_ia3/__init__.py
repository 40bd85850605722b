"""(IA)³ as a hubcli method plugin. Importing this module brings no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hubcli.hookspecs import hookimpl

HUBCLI_API = 1

NAMES = {"type": "array", "maxItems": 10000, "items": {"type": "string", "minLength": 1, "maxLength": 1000}}
NAMES_OR_PATTERN = {"anyOf": [{"type": "null"}, {"type": "string", "minLength": 1, "maxLength": 1000}, NAMES]}
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "The config that peft writes for an IA3 adapter",
    "type": "object",
    "required": ["target_modules", "feedforward_modules"],
    "properties": {
        "peft_type": {"enum": ["IA3", "ia3"]},
        "target_modules": NAMES_OR_PATTERN,
        "exclude_modules": NAMES_OR_PATTERN,
        "feedforward_modules": NAMES_OR_PATTERN,
        "modules_to_save": {"anyOf": [{"type": "null"}, NAMES]},
        "init_ia3_weights": {"type": "boolean"},
    },
}


@hookimpl
def hubcli_register_methods(register: Callable[..., None]) -> None:
    """Register `ia3`, and whose configs are its: peft's of type IA3, and AdapterHub's LoRAs that scale."""
    scaling = {"architecture": "lora", "composition_mode": "scale"}
    register("ia3", SCHEMA, load="hubcli_ia3.method:IA3", claims={"peft": "IA3", "adapterhub": scaling})
