"""The last look at a draft: an installer would plan it, and nothing of this machine is in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from hubcli.errors import HubcliError
from hubcli.installer import check_plan
from hubcli.manifest import Resolved
from hubcli.publishing import checks, documents
from hubcli.publishing.draft import Draft
from hubcli.publishing.findings import Finding, of_error


def last_look(found: Draft, folder: Path) -> Iterator[Finding]:
    """What stands against the files as they would go out; `folder` is where they come from."""
    release = found.release
    try:
        check_plan(Resolved(found.name, release.version, found.name, release, "draft", found.kind))
    except HubcliError as error:
        yield of_error("entry", error)
    places = documents.places(folder)
    yield from documents.leaks("entry", json.dumps(checks.plain(release), ensure_ascii=False), places)
    yield from documents.leaks_of_values("entry", checks.plain(release))
    for file in found.files:
        if file.path.endswith((".json", ".md", ".txt")) or file.role == "license":
            raw = file.data if file.data is not None else file.source.read_bytes() if file.source else b""
            yield from documents.leaks(file.path, raw.decode("utf-8", "replace"), places)
            if file.role in ("config", "head") or file.path == "tokenizer_config.json":
                yield from documents.leaks_of_values(file.path, json.loads(raw))
