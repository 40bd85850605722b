"""mirror: an offline copy of entries and their files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli.api.reports import error_row
from hubcli.api.workspace import Warn, Workspace
from hubcli.errors import UsageError

if TYPE_CHECKING:
    from hubcli.mirroring.run import Run

Json = dict[str, Any]


def mirror(
    folder: str | Path,
    *refs: str,
    all: bool = False,
    index: str | None = None,
    prune: bool = False,
    dry_run: bool = False,
    offline: bool | None = None,
    token: str | None = None,
    progress: bool = False,
    warn: Warn | None = None,
) -> Json:
    """Copy entries and all their files into a folder that another machine installs from with no network (schemas/cli/mirror).

    The folder is an index: `hubcli index add NAME FOLDER`, or any web server over it. A second run adds what is new, hashes
    what is there, and takes over what was yanked, deprecated or quarantined since; nothing is removed without `prune`, but
    files of wrong bytes. A release whose file went bad and can't be had again stays listed, is in `failed`, and is tried
    again by each run.

    Args:
        folder: a new folder, or a mirror.
        refs: each with all that it requires, in the version that an install would take.
        all: every release of every entry.
        index: take them from this index alone.
        prune: remove what these refs don't ask for; nothing is removed where one of them failed.

    Raises:
        UsageError: neither refs nor `all`, or both; or the folder holds something else.
        NotFoundError: no such index.
        EntryError: the folder is damaged, or would be faulty: what it served before is served on.
        BusyError: another run works in it. DiskError: it can't be written.
    """
    from hubcli.config import no_index
    from hubcli.mirroring import wanted as wanting
    from hubcli.mirroring.state import locked, read_mirror

    if bool(refs) == all:
        hint = "for example: hubcli mirror FOLDER sentiment/bert-lora"
        raise UsageError("mirror needs refs, or --all" if not all else "give refs or --all, not both", hint=hint)
    workspace = Workspace(offline=offline, token=token, warn=warn, refresh=True)
    known = [catalog.name for catalog in workspace.catalogs]
    if index is not None and index not in known:
        raise no_index(index, known)
    target = Path(folder)
    read_mirror(target)
    if all:
        wanted = wanting.everything(workspace.resolver, workspace.catalogs, index)
    else:
        wanted = wanting.of_refs(workspace.resolver, refs, index)
    if dry_run:
        run = _run(workspace, target, wanted, prune, progress)
        run.fetch(dry_run=True)
        run.removals()
        return _report(run, target)
    with locked(target):
        run = _run(workspace, target, wanted, prune, progress)
        if run.entries or run.mirror.documents:
            run.begin()
            run.fetch(dry_run=False)
            run.removals()
            run.write()
    return _report(run, target)


def _run(workspace: Workspace, target: Path, wanted: Any, prune: bool, progress: bool) -> Run:
    from hubcli.mirroring.files import Files
    from hubcli.mirroring.run import Run
    from hubcli.mirroring.state import read_mirror
    from hubcli.progress import Silent, for_terminal

    now = read_mirror(target)
    bar = for_terminal() if progress else Silent()
    files = Files(now, workspace.store, workspace.sources, bar, workspace.warn)
    run = Run(now, wanted, workspace.resolver, files, prune=prune, owners=_owners(workspace))
    run.plan()
    return run


def _owners(workspace: Workspace) -> Callable[[str, str], list[str] | None]:
    """Who owns a group, by the `_owners.json` of an index that is a folder here."""
    from functools import cache

    from hubcli.config import BUNDLED
    from hubcli.index.owners import read_owners
    from hubcli.mirroring.state import OWNERS
    from hubcli.paths import bundled

    @cache
    def groups(index: str) -> dict[str, tuple[str, ...]] | None:
        config = next((c for c in workspace.config.indexes if c.name == index), None)
        if config is None:
            return None
        folder = bundled("registry-index") if config.url == BUNDLED else config.folder
        if folder is None or not (folder / OWNERS).is_file():
            return None
        found, faults = read_owners((folder / OWNERS).read_bytes())
        return dict(found.groups) if found and not faults else None

    def owners(index: str, group: str) -> list[str] | None:
        found = groups(index)
        return list(found[group]) if found is not None and group in found else None

    return owners


def _report(run: Run, target: Path) -> Json:
    outcome = run.outcome
    unique = {
        spec["sha256"]: spec["size"]
        for d in run.documents.values()
        for r in d["releases"]
        for spec in r.get("files", ())
        if spec["sha256"] not in run.lost.get(d["name"], ())
    }
    document: Json = {
        "out": str(target),
        "entries": len(run.documents),
        "files": len(unique),
        "bytes": sum(unique.values()),
        "fetched": run.files.fetched,
        "snapshot": outcome.snapshot,
        "mirrored": outcome.mirrored,
        "refreshed": outcome.refreshed,
        "removed": outcome.removed,
        "left_out": [{"ref": ref, "reason": reason} for ref, reason in run.wanted.left_out],
        "failed": [{"ref": ref, "error": error_row(error)} for ref, error in outcome.failed],
        "notes": outcome.notes,
    }
    if outcome.failed:
        document["exit_code"] = outcome.failed[0][1].exit_code
    return document
