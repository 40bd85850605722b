"""QLoRA (Dettmers et al. 2023, arXiv 2305.14314) as a hubcli method plugin: LoRA on a base in 4 bit.

Importing this module brings no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import hubcli_lora

from hubcli.hookspecs import hookimpl

HUBCLI_API = 1


@hookimpl
def hubcli_register_methods(register: Callable[..., None]) -> None:
    """Register `qlora`; its files are LoRA's, and so are the schema of its config and its checks."""
    schema = Path(hubcli_lora.__file__).parent / "config.schema.json"
    register(
        "qlora",
        json.loads(schema.read_text(encoding="utf-8")),
        load="hubcli_qlora.method:Qlora",
        check="hubcli_lora.check:check",
        claims={"peft": "LORA"},
    )
