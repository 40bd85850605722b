"""The hooks a plugin can implement: the whole surface, one verb a hook.

A plugin is an importable module named by an entry point of the group `hubcli.plugins`. It states the API it was written for
(`HUBCLI_API = 1`), imports no torch at module level, and implements any of these with `@hubcli.hookspecs.hookimpl`. The entry
point's name says what it brings, so that nothing is imported before it is needed: the method's own name for a PEFT method;
`base-…`, `hub-…`, `index-…`, `cli-<command>`, `event-…` for the other kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pluggy

API = 1
PROJECT = "hubcli"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def hubcli_register_methods(register: Callable[..., None]) -> None:
    """Call `register(name, config_schema, load="module:Class")` for each PEFT method.

    `name` is the entry point's name, `config_schema` a JSON Schema (dict) of the method's config, `load` the
    `hubcli.method.Method` subclass, imported only when tensors are needed. Optional: `check="module:function"`, torch-free,
    run before an install with the config and {tensor name: (dtype, shape)}, returns problems as text; and
    `claims={"peft": "LORA"}`, the configs of other libraries that are this method's, by their kind or by keys that say more,
    `{"adapterhub": {"architecture": "lora", "composition_mode": "scale"}}`: who names more keys comes first. Since API 1.
    """


@hookspec
def hubcli_register_commands(cli: Any) -> None:
    """Add commands to the Click group `cli`. A core command can't be replaced. Since API 1."""


@hookspec
def hubcli_register_hubs(register: Callable[..., None]) -> None:
    """Call `register(scheme, load="module:Class")` for a kind of hub that endpoints of this URL scheme use. Since API 1."""


@hookspec
def hubcli_register_index_sources(register: Callable[..., None]) -> None:
    """Call `register(scheme, load="module:Class")` for a kind of index source. Since API 1."""


@hookspec
def hubcli_find_base_model(model_id: str, revision: str | None) -> Path | None:
    """Return a folder with the verified base model `model_id` at `revision`, or None. Since API 1."""


@hookspec
def hubcli_after_install(installed: Any) -> None:
    """Called with the `hubcli.manifest.Installed` after an adapter has appeared in the store. Since API 1."""
