"""search, info, outdated: what the indexes and the store say, changing nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hubcli.api.states import release_rows, state_row
from hubcli.api.workspace import Warn, Workspace
from hubcli.errors import HubcliError, UsageError, YankedError
from hubcli.manifest import Entry, Record, Release
from hubcli.refs import Ref, parse_ref

if TYPE_CHECKING:
    from hubcli.index.view import Hit

Json = dict[str, Any]
RANKED = 200  # hits that are looked through for a name, whatever the limit


def search(
    query: str,
    *,
    task: str | None = None,
    method: str | None = None,
    base: str | None = None,
    language: str | None = None,
    license: str | None = None,
    limit: int = 10,
    offline: bool | None = None,
    warn: Warn | None = None,
    note: Callable[[str], None] | None = None,
) -> Json:
    """Search the indexes by words, best first (schemas/cli/search). Only snapshots on this machine are read.

    What is called as the query says comes before all else. `note` is told where there are more hits than `limit`.

    Raises:
        UsageError: a limit below 1.
        EntryError: an index can't be read.
    """
    from hubcli.resolver import to_json

    if limit < 1:
        raise UsageError(f"limit: expected at least 1, found {limit}")
    workspace = Workspace(offline=offline, warn=warn)
    filters = {"task": task, "method": method, "base": base, "language": language, "license": license}
    asked = max(limit + 1, RANKED)
    hits = _named_first(query, workspace.resolver.search(query, limit=asked, **filters))
    document = to_json(hits[:limit])
    if note is not None and len(hits) > limit:
        more = " or more" if len(hits) == asked else ""
        note(f"showing {limit} of {len(hits)}{more}: --limit {min(len(hits), 1000)} shows them")
    for index, reason in workspace.resolver.skipped.items():
        workspace.warn(f"index {index} was not searched: {reason}")
    for fault in workspace.resolver.faults():
        workspace.warn(f"entry left out: {fault}")
    return document


def _named_first(query: str, hits: Sequence[Hit]) -> list[Hit]:
    """Hits whose name, or name behind the slash, is the query, before all others, and with no lower score than these."""
    asked = query.strip().casefold()
    best = max((hit.score for hit in hits), default=0.0)
    ordered = sorted(hits, key=lambda hit: (asked != hit.name, asked != hit.name.rpartition("/")[2]))
    return [hit._replace(score=best) if asked in (hit.name, hit.name.rpartition("/")[2]) else hit for hit in ordered]


def info(ref: str, *, offline: bool | None = None, token: str | None = None) -> Json:
    """All that is known about one adapter (schemas/cli/info): the newest release the ref allows, what is installed, metrics.

    `releases` has each release's state. Where all that fits is withdrawn, the installed or else the newest one is shown.

    Raises:
        NotFoundError: no index has it and it is not installed.
        UsageError: a folder.
    """
    workspace, parsed = Workspace(offline=offline, token=token), parse_ref(ref)
    if parsed.kind == "folder":
        raise UsageError(f"'{ref}' is a folder; info is about adapters of an index, a hub or the store")
    installed = [item.record for item in workspace.store.versions(parsed.store_name)]
    try:
        found = _of_index(workspace, parsed, installed) if parsed.kind == "index" else _of_hub(workspace, parsed)
    except HubcliError as error:
        kept = workspace.store.find(parsed.store_name, parsed.spec)
        if kept is None:
            raise
        record = kept.record
        found = _document(record.name, record.kind, record.description, record.release, record.index, [record.version])
        found["releases"] = [{"version": record.version, **state_row(record.release)}]
        found["warnings"].append(f"from the store alone: {error.message}")
    here = next((record.measured for record in installed if record.version == found["version"]), ())
    return {**found, "installed": [record.version for record in installed], "measured": list(here)}


def _of_index(workspace: Workspace, ref: Ref, installed: Sequence[Record]) -> Json:
    from hubcli.resolver import warnings_of
    from hubcli.versions import in_order

    index, entry, _ = workspace.resolver.entry(ref)
    here = [record.version for record in installed if record.index == index.name]
    release, withdrawn = _shown(ref, entry, here)
    document = _document(entry.name, entry.kind, entry.description, release, index.name, _versions(entry, in_order))
    told = [line for r in entry.releases if r is release or r.version in here for line in warnings_of(entry.name, r)]
    quarantined = [r for r in entry.releases if r.version in here and r.status == "quarantined"]
    told += [f"{entry.name} {r.version} is installed and quarantined: {r.status_reason}" for r in quarantined]
    document["warnings"].extend(dict.fromkeys([*withdrawn, *told]))
    return {**document, "releases": release_rows(entry)}


def _shown(ref: Ref, entry: Entry, here: Sequence[str]) -> tuple[Release, list[str]]:
    """The release that an install would take; where all are withdrawn, one that is installed, or the newest, and why."""
    from hubcli.resolver import choose
    from hubcli.versions import Range, in_order

    try:
        return choose(ref, entry), []
    except YankedError as error:
        fits = {r.version: r for r in entry.releases if Range(ref.spec).allows(r.version)}
        kept = in_order(version for version in fits if version in here) or in_order(fits)
        return fits[kept[-1]], [error.message]


def _versions(entry: Entry, in_order: Any) -> list[str]:
    return list(reversed(in_order(release.version for release in entry.releases)))


def _of_hub(workspace: Workspace, ref: Ref) -> Json:
    resolved = workspace.resolve(ref)
    document = _document(resolved.name, resolved.kind, resolved.description, resolved.release, "hf", [resolved.version])
    document["warnings"].extend(resolved.warnings)
    return {**document, "releases": [{"version": resolved.version, **state_row(resolved.release)}]}


def _document(name: str, kind: str, description: str, release: Release, index: str, versions: list[str]) -> Json:
    return {
        "name": name,
        "kind": kind,
        "description": description,
        "version": release.version,
        "versions": versions,
        "installed": [],
        "index": index,
        "release": release.to_json(),
        "warnings": [],
    }


def outdated(*refs: str, offline: bool | None = None, token: str | None = None) -> Json:
    """Installed adapters that have a newer version (schemas/cli/outdated); what can't be compared stands in `unchecked`, and
    what was yanked, deprecated, archived or quarantined since in `withdrawn`, with what to take instead.

    Raises:
        NotFoundError: a ref names nothing that is installed.
    """
    workspace = Workspace(offline=offline, token=token, refresh=True)
    rows, unchecked = [], []
    for item in workspace.newest_installed(refs):
        record = item.record
        try:
            latest = workspace.newer(item)
        except HubcliError as error:
            unchecked.append({"name": record.name, "reason": error.message})
            continue
        if latest is not None and latest.version != record.version:
            row = {"name": record.name, "installed": record.version, "latest": latest.version, "index": latest.index}
            rows.append(row)
    withdrawn = workspace.states.withdrawn(workspace.matching(refs))
    return {"outdated": rows, "unchecked": unchecked, "withdrawn": withdrawn}
