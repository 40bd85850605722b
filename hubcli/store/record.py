"""The record beside an installed adapter, `.hubcli.json`: a `manifest.Record` and the sha256 of its canonical JSON."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from hubcli.errors import HubcliError, StoreTamperedError
from hubcli.manifest import Record
from hubcli.store import faults
from hubcli.store.files import fsync_file, open_plain

NAME = ".hubcli.json"
V = 1
LIMIT = 4 << 20


def _canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def write_record(folder: Path, record: Record) -> None:
    """Write the record into a folder that is being put together, durably and read-only."""
    document = record.to_json()
    whole = {"sha256": hashlib.sha256(_canonical(document)).hexdigest(), "record": document}
    faults.reach("before-manifest")
    path = folder / NAME
    with path.open("xb") as file:
        file.write(json.dumps(whole, indent=1, ensure_ascii=True, allow_nan=False).encode() + b"\n")
        fsync_file(file)
    path.chmod(0o444)
    faults.reach("after-manifest")


def read_record(folder: Path) -> Record:
    """Read and check the record of an adapter's folder.

    Raises:
        StoreTamperedError: it is missing, is no plain file, can't be read, or its own hash does not match.
        HubcliError: a newer hubcli wrote it.
    """
    path = folder / NAME
    try:
        with open_plain(path) as file:
            data = file.read(LIMIT + 1)
        whole = json.loads(data)
        found, document = whole["sha256"], whole["record"]
        version = document["v"]
    except FileNotFoundError as error:
        raise _bad(path, "it is missing") from error
    except OSError as error:
        raise _bad(path, error.strerror or str(error)) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _bad(path, "it is no record") from error
    if version != V:
        raise HubcliError(f"{path}: this record has version {version!r}, this hubcli reads {V}", hint="upgrade hubcli")
    expected = hashlib.sha256(_canonical(document)).hexdigest()
    if found != expected:
        raise _bad(path, f"its sha256 is {expected}, it states {str(found)[:80]!a}")
    try:
        return Record.from_json(document)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise _bad(path, "it lacks fields of a record") from error


def _bad(path: Path, found: str) -> StoreTamperedError:
    return StoreTamperedError(
        f"{path}: expected the record that hubcli wrote, but {found}",
        hint=f"remove {path.parent} and install the adapter again",
    )
