"""The documents of schemas/cli, built from value objects: one place that knows their shape."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hubcli.compositions import shown_method
from hubcli.errors import HubcliError
from hubcli.manifest import FileSpec, Installed

Json = dict[str, Any]


def installed(item: Installed) -> Json:
    """One row of install's `installed`."""
    record, release = item.record, item.record.release
    return {
        "name": record.name,
        "version": record.version,
        "method": shown_method(record.kind, release.method),
        "base": release.base.id if release.base else None,
        "path": item.path,
        "files": [_file(f) for f in release.files],
        "changed": item.changed,
    }


def _file(spec: FileSpec) -> Json:
    """A file's row; of a converted one also what was fetched. A dry run doesn't know every hash."""
    row = {"path": spec.path, "size": spec.size, "sha256": spec.sha256}
    return row if spec.converted_from is None else {**row, "converted_from": spec.converted_from.to_json()}


def file_row(file: Path) -> Json:
    """One row of the files that a command wrote."""
    from hubcli.store.files import digest

    size, sha256 = digest(file)
    return {"path": file.name, "size": size, "sha256": sha256}


def listed(item: Installed) -> Json:
    """One row of list's `adapters`."""
    record, release = item.record, item.record.release
    return {
        "name": record.name,
        "version": record.version,
        "kind": record.kind,
        "method": shown_method(record.kind, release.method),
        "base": release.base.id if release.base else None,
        "task": release.task,
        "index": record.index,
        "path": item.path,
        "size": sum(f.size for f in release.files),
    }


def error_row(error: HubcliError) -> Json:
    """The `error` object of every command."""
    return {"id": error.id, "message": error.message, "cause": error.cause, "hint": error.hint}


class Report:
    """The document of an install, filled ref by ref."""

    def __init__(self, keep_going: bool):
        self.keep_going = keep_going
        self.document: Json = {"installed": [], "failed": []}

    def add(self, done: Installed) -> None:
        """One adapter is there."""
        self.document["installed"].append(installed(done))

    @contextlib.contextmanager
    def attempt(self, ref: str) -> Iterator[None]:
        """A block whose `HubcliError` becomes a row of `failed`, where the report keeps going."""
        try:
            yield
        except HubcliError as error:
            if not self.keep_going:
                raise
            self.document["failed"].append({"ref": ref, "error": error_row(error)})
            self.document.setdefault("exit_code", error.exit_code)
