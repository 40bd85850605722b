"""What a repo says of itself: the front matter of its README and its adapter config, as the hub's tags."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hubcli import plain_yaml

MAX_CARD, MAX_CONFIG = 256 * 1024, 1024 * 1024
_FRONT_MATTER = re.compile(rb"\A(?:\xef\xbb\xbf)?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?\Z")

Read = Callable[[str, int], bytes | None]


@dataclass(frozen=True, slots=True)
class Card:
    """`data`: the front matter as JSON; `tags`: what `filter=` finds; `config`: the hub's summary of a config."""

    data: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    pipeline_tag: str | None = None
    library_name: str | None = None
    config: dict[str, Any] = field(default_factory=dict)


def read_card(read: Read) -> Card:
    """The card of a commit; content that can't be read counts as absent.

    `read(path, limit)` gives the first `limit` bytes of a file at most, or None if there is none.
    """
    data = _front_matter(read("README.md", MAX_CARD) or b"")
    peft = _adapter_config(read("adapter_config.json", MAX_CONFIG))
    library = _text(data.get("library_name")) or ("peft" if peft else None)
    pipeline = _text(data.get("pipeline_tag"))
    tags = dict.fromkeys(tag for tag in (library, pipeline, *_tags(data, peft)) if tag)
    return Card(data, tuple(tags), pipeline, library, {"peft": peft} if peft else {})


def check_front_matter(readme: bytes) -> tuple[list[str], list[str]]:
    """What is wrong with the front matter of a README: errors, for which the hub refuses it, and warnings."""
    found = _FRONT_MATTER.match(readme)
    if not found:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        data = _yaml(found[1])
    except ValueError as error:
        return [f"the metadata can't be read: {error}"], []
    if not isinstance(data, dict):
        return ["the metadata: expected names and values"], []
    given = {name: value for name, value in data.items() if value is not None}
    errors = [f'"{name}" must be a text' for name in _TEXTS if not isinstance(given.get(name, ""), str)]
    for name in _LISTS:
        value = given.get(name, [])
        if not isinstance(value, str) and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
            errors.append(f'"{name}" must be a text or a list of texts')
    return errors, []


_TEXTS = ("library_name", "pipeline_tag", "license_name", "license_link", "base_model_relation")
_LISTS = ("tags", "language", "license", "datasets", "base_model", "metrics")


def _tags(data: Mapping[str, Any], peft: Mapping[str, Any]) -> Iterator[str]:
    yield from _texts(data.get("tags"))
    for key, prefix in (("language", ""), ("license", "license:"), ("datasets", "dataset:")):
        yield from (prefix + value for value in _texts(data.get(key)))
    adapter = bool(peft) or data.get("library_name") == "peft"
    relation = _text(data.get("base_model_relation")) or ("adapter" if adapter else "finetune")
    bases = _texts(data.get("base_model")) or _texts(peft.get("base_model_name_or_path"))
    for base in bases:
        # a path on somebody's disk names no base that others could look for
        if _HUB_ID.match(base):
            yield f"base_model:{base}"
            yield f"base_model:{relation}:{base}"


def _front_matter(readme: bytes) -> dict[str, Any]:
    found = _FRONT_MATTER.match(readme)
    if not found:
        return {}
    try:
        data = _yaml(found[1])
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _yaml(text: bytes) -> Any:
    """A YAML document as JSON values; ValueError for one that can't be read."""
    return _json_value(plain_yaml.load(text))


def _adapter_config(content: bytes | None) -> dict[str, Any]:
    try:
        config = json.loads(content) if content is not None else None
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
        return {}
    return {key: _text(config.get(key)) for key in ("base_model_name_or_path", "task_type", "peft_type")}


def _json_value(value: Any) -> Any:
    """YAML's values as JSON's: keys and dates as text, no number that JSON can't write."""
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_json_value(item) for item in value]
    if value is None or isinstance(value, (bool, str, int)):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else str(value)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for item in values if (text := _text(item))]
