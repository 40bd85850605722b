"""The documents of schemas/cli, built from value objects: one place that knows their shape."""

from __future__ import annotations

from typing import Any

from hubcli.errors import HubcliError
from hubcli.manifest import Installed

Json = dict[str, Any]


def installed(item: Installed) -> Json:
    """One row of install's `installed`."""
    record, release = item.record, item.record.release
    return {
        "name": record.name,
        "version": record.version,
        "method": release.method,
        "base": release.base.id if release.base else None,
        "path": item.path,
        "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in release.files],
        "changed": item.changed,
    }


def listed(item: Installed) -> Json:
    """One row of list's `adapters`."""
    record, release = item.record, item.record.release
    return {
        "name": record.name,
        "version": record.version,
        "kind": record.kind,
        "method": release.method,
        "base": release.base.id if release.base else None,
        "task": release.task,
        "index": record.index,
        "path": item.path,
        "size": sum(f.size for f in release.files),
    }


def error(error: HubcliError) -> Json:
    """The `error` object of every command."""
    return {"id": error.id, "message": error.message, "cause": error.cause, "hint": error.hint}
