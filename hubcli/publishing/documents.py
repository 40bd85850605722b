"""What an adapter's JSON files say of the base, and nothing of this machine in what is published."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hubcli import strict_json
from hubcli.hub.choice import FUSION
from hubcli.hub.peft_config import CONFIG
from hubcli.manifest import BaseModel, Json
from hubcli.publishing.findings import Finding
from hubcli.publishing.picked import MANIFEST, OWN, PEFT

HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?\Z")
MAX_BYTES = 1 << 20
_ABSOLUTE = re.compile(r"(?:/[^/\n]+){2,}/?\Z|[A-Za-z]:[\\/].|\\\\|~/")
# A path begins where no word, address or other path goes on, and ends where no longer name does.
_START, _END = r"(?:(?<![A-Za-z0-9_./~%@+$)}\]-])|(?<=file://))", r"(?![\w-])(?!\.\w)"
_PERSONAL = re.compile(r"/(?:home|Users|root|tmp|mnt|media|scratch|workspace|content|private|var/folders)/")


def is_local(id: str) -> bool:
    """Whether a base's name is a place on this machine, and none on a hub."""
    return not HUB_ID.match(id) or Path(id).is_dir()


def config_file(format: str) -> str:
    """The file that names the base."""
    if format.startswith(OWN):
        return MANIFEST
    return FUSION if format.endswith("fusion") else CONFIG


def base_key(format: str) -> str:
    """The key of that file that names the base."""
    if format.startswith(OWN):
        return "base"
    return "base_model_name_or_path" if format == PEFT else "model_name"


def with_base(raw: bytes, format: str, base: BaseModel) -> bytes:
    """A config's bytes with another name for the base, all else as it was."""
    document: Json = strict_json.loads(raw, where=config_file(format), limit=MAX_BYTES)
    key = base_key(format)
    before = document.get(key)
    document[key] = base.to_json() if key == "base" else base.id
    if before is not None and document.get("tokenizer_name_or_path") == before:
        document["tokenizer_name_or_path"] = base.id
    origin = document.get("origin")
    for inner in (origin.get("documents") or {}).values() if isinstance(origin, dict) else ():
        for name in ("base_model_name_or_path", "model_name"):
            if isinstance(inner, dict) and inner.get(name):
                inner[name] = base.id
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def texts(value: Any) -> Iterator[str]:
    """Every text of a document, keys too, as it reads once it is decoded; a text that is a document itself is decoded too."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield str(name)
            yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value
        yield from texts(inside(value))


def inside(text: str) -> Any:
    """The document that a text is; None where it is none."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def leaks(path: str, text: str, places: Mapping[str, str]) -> Iterator[Finding]:
    """Where a text names a folder of this machine; `places` are such folders, and what each is."""
    for place, what in places.items():
        behind = "" if place.endswith(("/", "\\")) else _END
        if re.search(_START + re.escape(place) + behind, text):
            yield _leak(path, f"{place}, {what}")
            return


def leaks_of_values(path: str, value: Any, key: str = "") -> Iterator[Finding]:
    """Where a value of a document is a path of a machine."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaks_of_values(path, inner, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from leaks_of_values(path, inner, key)
    elif isinstance(value, str) and (document := inside(value)) is not None:
        yield from leaks_of_values(path, document, key)
    elif isinstance(value, str) and _ABSOLUTE.match(value) and (_PERSONAL.match(value) or _there(value)):
        yield _leak(path, f"{key}: {ascii(value)[:120]}")


def _there(value: str) -> bool:
    try:
        return Path(value).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False


def _leak(path: str, found: str) -> Finding:
    hint = "take it out, or name a repository of a hub in its place (for the base ORG/NAME: base, --base)"
    return Finding(path, "content", "nothing of this machine", found, hint)


def places(folder: Path) -> dict[str, str]:
    """Folders of this machine that nothing published may name."""
    home = str(Path.home())
    found = {str(folder.absolute()): "the folder itself", str(folder.resolve()): "the folder itself"}
    if len(home) > 2:
        found[home + "/"] = "the home folder"
    return found
