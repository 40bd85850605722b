"""What an adapter_config.json in peft's format says about its adapter."""

from __future__ import annotations

import re
from typing import Any

from hubcli.errors import EntryError, MethodNotFoundError, PolicyError
from hubcli.manifest import BaseModel, Head, Json

CONFIG = "adapter_config.json"
MAX_BYTES = 1 << 20
TASKS = {
    "SEQ_CLS": "text-classification",
    "TOKEN_CLS": "token-classification",
    "QUESTION_ANS": "question-answering",
    "CAUSAL_LM": "text-generation",
    "SEQ_2_SEQ_LM": "text2text-generation",
    "FEATURE_EXTRACTION": "feature-extraction",
}
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_MAX_NAME = 200


def parse(data: bytes, where: str) -> Json:
    """The config as a dict; `where` names the adapter in messages.

    Raises:
        EntryError: E_JSON_*, or no object.
    """
    from hubcli import strict_json

    config = strict_json.loads(data, where=f"{where}: {CONFIG}", limit=MAX_BYTES)
    if not isinstance(config, dict):
        raise EntryError(f"{where}: {CONFIG}: expected a JSON object, found {ascii(config)[:40]}")
    return config


def method_of(config: Json, where: str) -> str:
    """The method whose plugin claims this config.

    Raises:
        MethodNotFoundError: no plugin does. PolicyError: E_REMOTE_CODE, the config needs code of its own.
    """
    from hubcli.plugins import plugins

    if config.get("auto_map"):
        raise PolicyError(f"{where} needs code of its own (auto_map), which is never run", id="E_REMOTE_CODE")
    kind = config.get("peft_type")
    if not isinstance(kind, str):
        raise MethodNotFoundError(f"{where}: {CONFIG} states no peft_type", hint="expected an adapter in peft's format")
    info = plugins().method_claiming("peft", kind, config)
    if info is None:
        hint = "a method is a plugin: install the package that brings it"
        raise MethodNotFoundError(f"{where}: no plugin reads peft configs of type {ascii(kind)[:60]}", hint=hint)
    return info.name


def base_of(config: Json, where: str) -> BaseModel | None:
    """The base it was made for; None where the config names none.

    Raises:
        EntryError: what it names can't be a model.
    """
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not name:
        return None
    if not isinstance(name, str) or not name.isprintable() or len(name) > _MAX_NAME:
        found = ascii(name)[:80]
        raise EntryError(f"{where}: {CONFIG}: base_model_name_or_path: expected a model's name, found {found}")
    return BaseModel(name, revision if isinstance(revision, str) and _COMMIT.match(revision) else None)


def head_of(config: Json) -> Head | None:
    """The modules that were trained whole; None where there are none."""
    modules = trained_modules(config)
    return Head(modules=modules) if modules else None


def trained_modules(config: Json) -> tuple[str, ...]:
    """`modules_to_save` as names."""
    return tuple(str(module) for module in as_list(config.get("modules_to_save")))


def trains_tokens(config: Json) -> bool:
    """Whether token embeddings were trained, so that the adapter needs its own tokenizer."""
    modules = trained_modules(config)
    return bool(config.get("trainable_token_indices")) or any("embed" in m or m in ("wte", "lm_head") for m in modules)


def as_list(value: Any) -> list[Any]:
    """A list as it is, nothing as an empty one, anything else as a list of one."""
    return value if isinstance(value, list) else [] if value is None else [value]
