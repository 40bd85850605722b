"""Prefix tuning (Li and Liang 2021, arXiv 2101.00190) as a hubcli method plugin. Importing this module brings no torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hubcli.hookspecs import hookimpl

HUBCLI_API = 1


@hookimpl
def hubcli_register_methods(register: Callable[..., None]) -> None:
    """Register `prefix` with the schema of its config, its checks and its class."""
    schema = json.loads((Path(__file__).parent / "config.schema.json").read_text(encoding="utf-8"))
    register(
        "prefix",
        schema,
        load="hubcli_prefix.method:Prefix",
        check="hubcli_prefix.settings:check",
        claims={"peft": "PREFIX_TUNING", "adapterhub": "prefix_tuning"},
    )
