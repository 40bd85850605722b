"""BitFit (Ben Zaken et al. 2022, arXiv 2106.10199) as a hubcli method plugin. Importing this module brings no torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hubcli.hookspecs import hookimpl

HUBCLI_API = 1


@hookimpl
def hubcli_register_methods(register: Callable[..., None]) -> None:
    """Register `bitfit` with the schema of its config, its checks and its class."""
    schema = json.loads((Path(__file__).parent / "config.schema.json").read_text(encoding="utf-8"))
    register("bitfit", schema, load="hubcli_bitfit.method:BitFit", check="hubcli_bitfit.settings:check")
