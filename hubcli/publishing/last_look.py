"""The last look at a draft: an installer would plan it, and nothing of this machine is in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hubcli.errors import HubcliError
from hubcli.installer import check_plan
from hubcli.manifest import Resolved
from hubcli.publishing import checks, documents
from hubcli.publishing.draft import Draft, DraftFile
from hubcli.publishing.findings import Finding, of_error
from hubcli.safetensors_header import Header


def last_look(found: Draft, folder: Path, headers: Mapping[str, Header]) -> Iterator[Finding]:
    """What stands against the files as they would go out.

    Args:
        folder: where they come from. headers: of the weights among them, by path.
    """
    release = found.release
    try:
        check_plan(Resolved(found.name, release.version, found.name, release, "draft", found.kind))
    except HubcliError as error:
        yield of_error("entry", error)
    places = documents.places(folder)
    yield from _told("entry", checks.plain(release), places)
    for path, header in headers.items():
        yield from _told(path, header.metadata, places)
    for file in found.files:
        if file.path.endswith((".json", ".md", ".txt")) or file.role == "license":
            yield from _said(file, places)


def _told(path: str, document: Any, places: Mapping[str, str]) -> Iterator[Finding]:
    """What a document says of this machine, anywhere in it."""
    yield from documents.leaks(path, "\n".join(documents.texts(document)), places)
    yield from documents.leaks_of_values(path, document)


def _said(file: DraftFile, places: Mapping[str, str]) -> Iterator[Finding]:
    """What a file says of this machine. A vocabulary has short paths among its words, and means none of them."""
    raw = file.data if file.data is not None else file.source.read_bytes() if file.source else b""
    text = raw.decode("utf-8", "replace")
    if file.role in ("config", "head") or file.path == "tokenizer_config.json":
        yield from _told(file.path, json.loads(text), places)
        return
    if file.role == "tokenizer":
        places = {place: what for place, what in places.items() if len(Path(place).parts) > 2}
    document = documents.inside(text) if file.path.endswith(".json") else None
    yield from documents.leaks(file.path, text if document is None else "\n".join(documents.texts(document)), places)
