"""What tests of mirrors read of an index folder, and how its keepers edit it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from hubcli.config import IndexConfig
from hubcli.index.catalog import Catalog
from tests.support.adapters import IndexFolder


def change(index: IndexFolder, name: str, version: str, **fields: Any) -> None:
    """Edit one release of an entry, as its keepers do."""
    file = index.folder / f"{name}.json"
    document = json.loads(file.read_bytes())
    for found in document["releases"]:
        found.update(fields if found["version"] == version else {})
    file.write_text(json.dumps(document, indent=1))


def listed(folder: Path) -> dict[str, list[str]]:
    """name → versions, as a reader of the folder is served them."""
    view = Catalog(IndexConfig("mirror", str(folder))).view
    return {
        name: [r["version"] for r in json.loads(view.lookup(name) or b"")["releases"]] for name in sorted(view.names())
    }


def tree(folder: Path) -> dict[str, str]:
    return {
        str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.rglob("*") if f.is_file()
    }


def rows(report: dict[str, Any]) -> dict[str, bool]:
    return {f"{row['name']}@{row['version']}": row["changed"] for row in report["mirrored"]}
