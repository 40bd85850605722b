"""Bottleneck adapters (Houlsby et al. 2019, arXiv 1902.00751) as a hubcli method plugin. Importing this brings no torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hubcli.hookspecs import hookimpl

HUBCLI_API = 1


@hookimpl
def hubcli_register_methods(register: Callable[..., None]) -> None:
    """Register `bottleneck` with the schema of its config, its checks and its class."""
    schema = json.loads((Path(__file__).parent / "config.schema.json").read_text(encoding="utf-8"))
    register(
        "bottleneck",
        schema,
        load="hubcli_bottleneck.method:Bottleneck",
        check="hubcli_bottleneck.settings:check",
        claims={"adapterhub": ""},
    )
