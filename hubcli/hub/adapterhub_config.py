"""What an adapter_config.json in AdapterHub's format says about its adapter."""

from __future__ import annotations

from typing import Any

from hubcli.errors import EntryError, MethodNotFoundError
from hubcli.hub.peft_config import CONFIG
from hubcli.manifest import BaseModel, Json

FORMAT = "adapterhub"
HEAD_CONFIG = "head_config.json"
# (safetensors, what the library writes by default)
WEIGHTS = ("adapter.safetensors", "pytorch_adapter.bin")
HEAD_WEIGHTS = ("model_head.safetensors", "pytorch_model_head.bin")
_MAX_NAME = 200


def inner(document: Any) -> Json | None:
    """The method's own config in AdapterHub's envelope; None for another library's document."""
    config = document.get("config") if isinstance(document, dict) and "peft_type" not in document else None
    return config if isinstance(config, dict) else None


def facts(envelope: Json, config: Json, where: str) -> dict[str, Any]:
    """The method and the base, as fields of a release.

    Raises:
        MethodNotFoundError: no plugin claims this architecture. EntryError: what it names can't be a model.
    """
    from hubcli.plugins import plugins

    kind = config.get("architecture") or ""
    info = plugins().method_claiming(FORMAT, kind, config)
    if info is None:
        raise MethodNotFoundError(
            f"{where}: no plugin provides AdapterHub's architecture {ascii(kind)[:60]}",
            hint="a method is a plugin: install the package that brings it",
        )
    name = envelope.get("model_name")
    if name and (not isinstance(name, str) or not name.isprintable() or len(name) > _MAX_NAME):
        raise EntryError(f"{where}: {CONFIG}: model_name: expected a model's name, found {ascii(name)[:80]}")
    return {"method": info.name, "base": BaseModel(name) if name else None}
