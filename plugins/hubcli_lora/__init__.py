"""LoRA (Hu et al. 2021, arXiv 2106.09685) as a hubcli method plugin. Importing this module brings no torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hubcli.hookspecs import hookimpl

HUBCLI_API = 1


@hookimpl
def hubcli_register_methods(register: Callable[..., None]) -> None:
    """Register `lora` with the schema of its config, its checks and its class."""
    schema = json.loads((Path(__file__).parent / "config.schema.json").read_text(encoding="utf-8"))
    register(
        "lora",
        schema,
        load="hubcli_lora.method:Lora",
        check="hubcli_lora.check:check",
        claims={"peft": "LORA", "adapterhub": "lora"},
    )
