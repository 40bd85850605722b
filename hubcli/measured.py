"""Figures that were measured here, kept with what they are about: rows of JSON, one a figure.

A row has `name`, `value`, `interval`, `n`, `dataset`, `split`, `sha256` (of the data), `seed`, `task`, `settings`
(what else decides the value) and `hubcli` (the version that measured it). A figure of the same name, data set, split
and data takes the place of an earlier one; all others stay.

The store keeps them in an adapter's record. A folder in hubcli's own format has them in its manifest under `metrics`; beside
peft's and AdapterHub's files they stand in a `metrics.json`: {"format": "hubcli", "v": 1, "metrics": [rows]}.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hubcli import strict_json
from hubcli.errors import DiskError, EntryError, HubcliError, PolicyError, UnsupportedError

Row = dict[str, Any]
KEY = ("name", "dataset", "split", "sha256")
MANIFEST, BESIDE = "manifest.json", "metrics.json"
RECORD = ".hubcli.json"
FORMAT, V = "hubcli", 1
LIMIT = 1 << 20  # bytes, of either file
KEPT = 1000  # rows


def merged(old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> tuple[Row, ...]:
    """The old rows with the new ones in place of those they are about again, the last ones where there are very many."""
    found = {tuple(row.get(key) for key in KEY): dict(row) for row in (*old, *new)}
    return tuple(found.values())[-KEPT:]


def read(folder: Path) -> tuple[Row, ...]:
    """The rows of an adapter's folder; none where nothing was measured.

    Raises:
        EntryError: the file is no clean JSON, or its metrics no list of objects. UnsupportedError: a newer hubcli's.
    """
    return _rows(*_document(folder))


def write(folder: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Keep rows in an adapter's folder; returns the file, which is replaced in one step.

    Raises:
        PolicyError: an installed adapter's own folder. UnsupportedError: another program's metrics.json, or a newer hubcli's.
        EntryError: the file is no clean JSON. DiskError: it can't be written.
    """
    if (folder / RECORD).exists():
        raise PolicyError(f"{folder} is an installed adapter's folder", hint="name the adapter by its ref")
    file, document = _document(folder)
    document["metrics"] = [*merged(_rows(file, document), rows)]
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    fresh = file.with_name(f".{file.name}-{secrets.token_hex(6)}")
    try:
        with fresh.open("x", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(file)
    except OSError as error:
        raise DiskError(f"can't write {file}", cause=error.strerror) from error
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
    return file


def _rows(file: Path, document: Mapping[str, Any]) -> tuple[Row, ...]:
    rows = document.get("metrics", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise EntryError(f"{file}: metrics: expected a list of objects")
    return tuple(rows)


def _document(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The file that holds, or will hold, a folder's figures, and what stands in it."""
    try:
        manifest = strict_json.read(folder / MANIFEST, limit=LIMIT)
        if isinstance(manifest, dict) and manifest.get("format") == FORMAT:
            return folder / MANIFEST, manifest
    except (HubcliError, OSError):
        pass  # some other program's file
    file = folder / BESIDE
    try:
        document = strict_json.read(file, limit=LIMIT)
    except FileNotFoundError:
        return file, {"format": FORMAT, "v": V, "metrics": []}
    except OSError as error:
        raise DiskError(f"can't read {file}", cause=error.strerror) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UnsupportedError(f"{file} is another program's file: no figures are kept there")
    if document.get("v") != V:
        raise UnsupportedError(f"{file}: expected v {V}, found {document.get('v')!r:.20}", hint="upgrade hubcli")
    return file, document
