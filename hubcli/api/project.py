"""lock and sync: what a project wants, pinned and installed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hubcli import lockfile
from hubcli.api.reports import Report
from hubcli.api.workspace import Warn, Workspace
from hubcli.compositions import Need, gather
from hubcli.errors import LockError, UsageError
from hubcli.manifest import Resolved
from hubcli.progress import Silent, for_terminal
from hubcli.project_file import LOCK, PROJECT, Project, load_project, save_wanted, spec_to_save
from hubcli.refs import Ref, parse_ref
from hubcli.versions import Range

Json = dict[str, Any]
RELOCK = "write it again: hubcli lock"


def lock(
    project: str | Path = ".",
    *,
    check: bool = False,
    upgrade: bool = False,
    convert_bin: bool = False,
    dry_run: bool = False,
    offline: bool | None = None,
    token: str | None = None,
    warn: Warn | None = None,
) -> Json:
    """Pin what `adapters.toml` asks for in `adapters.lock` (schemas/cli/lock).

    What is locked stays locked while the project still allows it; `upgrade` takes the newest versions. `check` compares
    and writes nothing. `convert_bin` takes pickled weights of hub repositories that have no others: they are converted to be
    locked, and the lock says so, so that `sync` needs no word of it.

    Raises:
        UsageError: `check` together with `upgrade`.
        NotFoundError: no `adapters.toml`, or something it asks for does not exist.
        LockError: `check`, and the lock is missing or stale.
    """
    if check and upgrade:
        raise UsageError("lock: check= compares and upgrade= changes: give one of them")
    wanted = load_project(Path(project))
    if check:
        kept = _checked(wanted)
        return _document(wanted, [(a.name, a.version) for a in kept.adapters], changed=False)
    workspace = Workspace(
        offline=offline, token=token, warn=warn, refresh=True, project=wanted.file, convert_bin=convert_bin
    )
    resolved = _resolved(workspace, wanted, {} if upgrade else _still_locked(wanted), dry_run=dry_run)
    text = lockfile.make_lock(wanted, resolved, workspace.config.indexes)
    file = wanted.lock_file
    changed = not file.is_file() or file.read_bytes() != text.encode()
    if changed and not dry_run:
        lockfile.write_lock(file, text)
    return _document(wanted, [(r.name, r.version) for r in resolved], changed=changed)


def sync(
    project: str | Path = ".",
    *,
    frozen: bool = False,
    dry_run: bool = False,
    no_wait: bool = False,
    offline: bool | None = None,
    token: str | None = None,
    progress: bool = False,
    warn: Warn | None = None,
) -> Json:
    """Install exactly what `adapters.lock` pins (schemas/cli/sync); every adapter is tried, what failed is listed.

    Yanked releases install with a warning, quarantined ones never. `frozen` does not compare with `adapters.toml`.

    Raises:
        LockError: the lock is missing, from a newer hubcli, or (without `frozen`) stale.
    """
    folder = Path(project)
    pinned = lockfile.read_lock(folder / LOCK) if frozen else _checked(load_project(folder), must_exist=True)
    workspace = Workspace(offline=offline, token=token, warn=warn, project=folder / PROJECT)
    for warning in pinned.warnings:
        workspace.warn(warning)
    report = Report(keep_going=True)
    bar = for_terminal() if progress else Silent()
    for resolved in lockfile.lock_to_resolved(pinned):
        with report.attempt(resolved.name):
            report.add(workspace.install(workspace.review(resolved), bar, dry_run=dry_run, no_wait=no_wait))
    return report.document


def locked(workspace: Workspace, refs: Sequence[str], folder: Path = Path()) -> dict[str, Resolved]:
    """What `adapters.lock` pins for these refs.

    Raises:
        LockError: it is missing or stale, or does not pin one of them.
    """
    pins = {r.name: r for r in lockfile.lock_to_resolved(_checked(load_project(folder), must_exist=True))}
    found = {}
    for text in refs:
        ref = parse_ref(text)
        pin = pins.get(ref.store_name)
        if pin is None or not _allows(ref, pin):
            held = f"pins {pin.name} {pin.version}" if pin else "does not pin it"
            raise LockError(f"{LOCK} {held}, asked for was {ref}", hint="drop --locked, or change adapters.toml")
        reviewed = workspace.review(pin)
        found[text] = dataclasses.replace(reviewed, parts=tuple(workspace.review(part) for part in pin.parts))
    return found


def save(refs: Sequence[str], versions: Mapping[str, str], folder: Path = Path(), *, dry_run: bool = False) -> None:
    """Write what was just installed into `adapters.toml`, as typed; a ref without a version gets `^version`.

    Raises:
        UsageError: the file can't be changed line by line.
    """
    for ref in map(parse_ref, refs):
        if ref.store_name in versions and not dry_run:
            spec = spec_to_save(ref, versions[ref.store_name])
            save_wanted(folder / PROJECT, ref.store_name, spec, index=ref.index)


def _checked(project: Project, *, must_exist: bool = False) -> lockfile.Lock:
    if must_exist and not project.lock_file.is_file():
        raise LockError(f"{project.lock_file} does not exist", hint="write it: hubcli lock")
    pinned = lockfile.read_lock(project.lock_file)
    stale = lockfile.check(project, pinned)
    if stale:
        raise LockError(f"{project.lock_file} is stale: {'; '.join(stale)}", hint=RELOCK)
    return pinned


def _still_locked(project: Project) -> dict[str, Resolved]:
    """The releases of the present lock that the project still asks for in the same words, of indexes at the same place."""
    if not project.lock_file.is_file():
        return {}
    pinned = lockfile.read_lock(project.lock_file)
    moved = {index.name for index in lockfile.moved_indexes(project, pinned)}
    resolved = [r for r in lockfile.lock_to_resolved(pinned) if r.index not in moved]
    return {r.name: r for r in resolved if str(project.wants.get(r.name, r.requested)) == r.requested}


def _resolved(workspace: Workspace, project: Project, old: dict[str, Resolved], *, dry_run: bool) -> list[Resolved]:
    """What the project wants and all that it requires, one release a name; from the old lock where it still fits."""

    def pick(name: str, needs: tuple[Need, ...]) -> Resolved:
        ref = project.wants.get(name)
        further = needs[1:] if ref is not None else needs
        if name in old and all(Range(need.spec).allows(old[name].version) for need in further):
            return old[name]
        if ref is not None and not further:
            return _pinned(workspace, ref, dry_run=dry_run)
        asked = ref or Ref("index", name)
        return dataclasses.replace(workspace.resolve_needed(asked, further), requested=str(asked))

    wants = {name: Need(ref.spec, project.file.name) for name, ref in project.wants.items()}
    return [*gather(wants, pick).values()]


def _pinned(workspace: Workspace, ref: Ref, *, dry_run: bool) -> Resolved:
    """A release with every hash known: a hub repository's small files are hashed by installing it (not in a dry run)."""
    resolved = workspace.resolve(ref, convert_bin=_agreed(workspace, ref))
    if all(file.sha256 for file in resolved.release.files):
        return resolved
    installed = workspace.install(resolved, Silent(), dry_run=dry_run)
    return dataclasses.replace(resolved, release=installed.record.release)


def _agreed(workspace: Workspace, ref: Ref) -> bool:
    """Whether a person took pickled weights of this repository before: it is installed, converted."""
    versions = workspace.store.versions(ref.store_name) if ref.kind == "hf" else []
    return any(spec.converted_from is not None for item in versions for spec in item.record.release.files)


def _allows(ref: Ref, pin: Resolved) -> bool:
    if not ref.spec or ref.kind == "hf":
        return not ref.spec or ref.spec in (parse_ref(pin.requested).spec, pin.version)
    if ref.kind == "folder":
        raise UsageError(f"'{ref}' is a folder")
    return Range(ref.spec).allows(pin.version)


def _document(project: Project, adapters: Sequence[tuple[str, str]], *, changed: bool) -> Json:
    rows = [{"name": name, "version": version} for name, version in sorted(adapters)]
    return {"path": str(project.lock_file), "changed": changed, "stale": [], "adapters": rows}
