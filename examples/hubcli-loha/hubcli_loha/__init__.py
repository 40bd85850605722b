"""LoHa as a hubcli method plugin. Importing this module brings no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hubcli.hookspecs import hookimpl

HUBCLI_API = 1

NAMES = {"type": "array", "maxItems": 10000, "items": {"type": "string", "minLength": 1, "maxLength": 1000}}
NAMES_OR_PATTERN = {"anyOf": [{"type": "null"}, {"type": "string", "minLength": 1, "maxLength": 1000}, NAMES]}
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "The config that peft writes for a LoHa adapter",
    "type": "object",
    "properties": {
        "peft_type": {"enum": ["LOHA", "loha"]},
        "r": {"type": "integer", "minimum": 1, "maximum": 65536},
        "alpha": {"type": "number", "minimum": -1000000, "maximum": 1000000},
        "target_modules": NAMES_OR_PATTERN,
        "exclude_modules": NAMES_OR_PATTERN,
        "modules_to_save": {"anyOf": [{"type": "null"}, NAMES]},
    },
}


@hookimpl
def hubcli_register_methods(register: Callable[..., None]) -> None:
    """Register `loha`, and that configs of peft's type LOHA are its."""
    register("loha", SCHEMA, load="hubcli_loha.method:LoHa", claims={"peft": "LOHA"})
