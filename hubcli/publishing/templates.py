"""The chat template that a library keeps in a file of its own: published where a tokenizer's config has its place for it."""

from __future__ import annotations

import io
import json
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from hubcli import strict_json
from hubcli.errors import EntryError, HubcliError
from hubcli.hub.choice import TOKENIZER
from hubcli.manifest import FileSpec
from hubcli.publishing.findings import of_error
from hubcli.store import content

if TYPE_CHECKING:
    from hubcli.publishing.picked import Picked

TEMPLATE, CONFIG, KEY = "chat_template.jinja", TOKENIZER[1], "chat_template"
MAX_TEMPLATE = 1 << 20  # bytes
MAX_CONFIG = 32 << 20  # bytes


def fold(folder: Path, picked: Picked) -> None:
    """Write the template of a folder into the tokenizer's config as it is published, where a tokenizer is; else say that it is
    lost. Of two templates the file's counts, as it does where it lies.
    """
    if not (folder / TEMPLATE).is_file():
        return
    if TOKENIZER[0] not in picked.files:
        picked.notes.append(
            f"left out: {TEMPLATE}: the chat template is lost, as the adapter brings no {TOKENIZER[0]} that it belongs to"
        )
        return
    try:
        raw = _folded(folder / TEMPLATE, folder / CONFIG)
        spec = FileSpec(CONFIG, len(raw), sha256(raw).hexdigest(), "tokenizer")
        content.check_bytes(spec, io.BytesIO(raw))
    except HubcliError as error:
        picked.findings.append(of_error(TEMPLATE, error))
        return
    picked.files[CONFIG], picked.made[CONFIG] = (folder / CONFIG, spec), raw
    picked.notes.append(f"changed: {CONFIG} has the chat template that {TEMPLATE} holds")


def _folded(template: Path, config: Path) -> bytes:
    """The config with the template in it.

    Raises:
        EntryError: one of them is too large, or no text, or no JSON object.
    """
    raw = strict_json.read_bytes(template, limit=MAX_TEMPLATE, where=TEMPLATE)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise EntryError(f"{TEMPLATE}: expected UTF-8, found other bytes", id="E_JSON_TEXT") from None
    said = strict_json.read(config, limit=MAX_CONFIG, where=CONFIG, vocabulary=True) if config.is_file() else {}
    if not isinstance(said, dict):
        raise EntryError(f"{CONFIG}: expected a JSON object, found {type(said).__name__}")
    return (json.dumps({**said, KEY: text}, indent=2, ensure_ascii=False) + "\n").encode()
