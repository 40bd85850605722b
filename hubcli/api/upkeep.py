"""cache and doctor: what the store holds, and whether this installation is sound."""

from __future__ import annotations

import os
from typing import Any

from hubcli.api.workspace import Warn, Workspace
from hubcli.errors import HubcliError
from hubcli.sizes import many

Json = dict[str, Any]


def cache_dir() -> Json:
    """The folder that holds the store (schemas/cli/cache-dir)."""
    return {"path": str(Workspace().store.path)}


def cache_size() -> Json:
    """Bytes, blobs, bytes that no installed adapter uses, and among them what local pickles became (schemas/cli/cache-size).

    Raises:
        HubcliError: a record can't be read, so nobody knows what is used.
    """
    store = Workspace().store
    total, blobs = store.size()
    unused, made = sum(size for _, size in store.unused_blobs(grace=0)), store.converted_bytes()
    return {
        "path": str(store.path),
        "bytes": total + made,
        "blobs": blobs,
        "unused_bytes": unused + made,
        "converted_bytes": made,
    }


def cache_prune(*, dry_run: bool = False, no_wait: bool = False, warn: Warn | None = None) -> Json:
    """Remove blobs that no installed adapter uses, what dead processes left behind, and what pickled weights of local folders
    became, which is made again where it is needed (schemas/cli/cache-prune).

    Raises:
        HubcliError: a record can't be read, so nobody knows what it uses; nothing is removed.
        BusyError: another process prunes.
    """
    pruned = Workspace().store.prune(dry_run=dry_run, no_wait=no_wait, warn=warn)
    return {"removed": [*pruned.blobs, *pruned.leftovers], "bytes": pruned.freed}


def doctor(*, fix: bool = False, offline: bool | None = None) -> Json:
    """Check the home folder, the store, the indexes and the plugins (schemas/cli/doctor).

    `fix` removes what dead processes left behind; what needs a person's decision is named, never touched.
    """
    workspace = Workspace(offline=offline)
    checks = [_home(workspace), *_store(workspace, fix), *_quarantined(workspace), *_indexes(workspace), *_plugins()]
    return {"ok": all(check["ok"] or check["fixed"] for check in checks), "checks": checks}


def _check(name: str, problem: str | None, detail: str = "", *, fixed: bool = False) -> Json:
    return {"name": name, "ok": problem is None, "fixed": fixed, "detail": problem or detail}


def _home(workspace: Workspace) -> Json:
    folder = workspace.home
    while not folder.exists():
        folder = folder.parent
    problem = None if os.access(folder, os.W_OK) else f"{folder} is not writable"
    return _check("home", problem, str(workspace.home))


def _store(workspace: Workspace, fix: bool) -> list[Json]:
    try:
        findings = workspace.store.doctor(fix=fix)
    except HubcliError as error:
        return [_check("store", error.message)]
    rows = [_check("store", f"{f.path}: {f.what}", fixed=f.fixed) for f in findings]
    return rows or [_check("store", None, f"{many(len(workspace.store.installed()), 'adapter')}, no leftovers")]


def _quarantined(workspace: Workspace) -> list[Json]:
    """What is installed and must not be used; a person removes it."""
    try:
        rows = workspace.states.withdrawn(workspace.store.scan()[0])
    except HubcliError:
        return []  # `_store` says why it can't be read
    return [
        _check("installed", f"{row['name']} {row['version']} is quarantined: {row['reason'] or 'no reason given'}")
        for row in rows
        if row["state"] == "quarantined"
    ]


def _indexes(workspace: Workspace) -> list[Json]:
    rows = []
    for catalog in workspace.catalogs:
        name = f"index {catalog.name}"
        try:
            faults = catalog.faults()
            problem = None
            if faults:
                problem = f"{len(faults)} faults in its entries; the first: {faults[0][0]}.json: {faults[0][1]}"
            rows.append(_check(name, problem, f"snapshot {catalog.snapshot_sha256[:12]}"))
        except HubcliError as error:
            rows.append(_check(name, error.message))
    return rows


def _plugins() -> list[Json]:
    from hubcli.api.plugin_checks import plugins_doctor

    return [
        _check(
            f"plugin {p['name']}",
            None if p["ok"] else f"{p['phase']}: {p['cause']}; {p['hint']}",
            f"{p['distribution']} {p['version']}",
        )
        for p in plugins_doctor()["plugins"]
    ]
