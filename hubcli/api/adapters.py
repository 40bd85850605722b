"""install, uninstall, list, upgrade, verify, resolve: what changes or checks the store."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

from hubcli.api import reports
from hubcli.api.reports import Report
from hubcli.api.states import state_row
from hubcli.api.workspace import Warn, Workspace
from hubcli.errors import HubcliError, PolicyError, UsageError
from hubcli.manifest import Installed, Resolved
from hubcli.progress import Progress, Silent, for_terminal
from hubcli.refs import parse_ref

Json = dict[str, Any]


def resolve(ref: str, *, offline: bool | None = None, token: str | None = None) -> Resolved:
    """The release that a ref stands for now, with the newest version allowed.

    Raises:
        RefError: the text is no ref, or it names a folder.
        NotFoundError, YankedError, EntryError, NetworkError: as `hubcli.resolver.Resolver.resolve`.
    """
    return Workspace(offline=offline, token=token).resolve(parse_ref(ref))


def install(
    *refs: str,
    save: bool = False,
    locked: bool = False,
    no_wait: bool = False,
    dry_run: bool = False,
    allow_base_mismatch: bool = False,
    convert_bin: bool = False,
    offline: bool | None = None,
    token: str | None = None,
    progress: bool = False,
    keep_going: bool = False,
    warn: Warn | None = None,
) -> Json:
    """Resolve, fetch, verify and store adapters (schemas/cli/install). Installed and intact already: `changed` is False.

    Args:
        save: also write the refs into the `adapters.toml` of the working folder.
        locked: take exactly what `adapters.lock` pins for these refs.
        convert_bin: of hub repositories (`hf:`) that have their weights as a pickle alone, fetch it, read it as tensors alone in
            a process of its own, and store safetensors; without it they are refused. Both hashes are recorded.
        keep_going: try every ref and list what failed under `failed`, with the `exit_code` of the first; otherwise the
            first error is raised, after the refs before it were installed.

    Raises:
        UsageError: no ref.
        LockError: `locked`, and the lock is missing, stale, or does not pin a ref.
        HubcliError: without `keep_going`, what resolving or installing raises.
    """
    if not refs:
        raise UsageError("install needs at least one ref")
    workspace = Workspace(offline=offline, token=token, warn=warn, refresh=True, convert_bin=convert_bin)
    report = Report(keep_going)
    pins = _pins(workspace, refs) if locked else {}
    bar = for_terminal() if progress else Silent()
    versions: dict[str, str] = {}
    for text in refs:
        with report.attempt(text):
            resolved = pins[text] if locked else workspace.resolve(parse_ref(text))
            for done in workspace.install_all(
                resolved, bar, dry_run=dry_run, no_wait=no_wait, allow_base_mismatch=allow_base_mismatch
            ):
                report.add(done)
            versions[resolved.name] = resolved.version
    if save:
        with report.attempt("adapters.toml"):
            _save(refs, versions, dry_run)
    return report.document


def _pins(workspace: Workspace, refs: Sequence[str]) -> dict[str, Resolved]:
    from hubcli.api.project import locked

    return locked(workspace, refs)


def _save(refs: Sequence[str], versions: dict[str, str], dry_run: bool) -> None:
    from hubcli.api.project import save

    save(refs, versions, dry_run=dry_run)


def uninstall(*refs: str, dry_run: bool = False, no_wait: bool = False, warn: Warn | None = None) -> Json:
    """Remove every installed version that the refs allow (schemas/cli/uninstall). Content stays until `cache prune`.

    Raises:
        PolicyError: an installed composition or fusion, which the refs don't name, needs one of them; nothing is removed.
        UsageError: no ref.
        NotFoundError: nothing installed fits a ref; nothing is removed.
        BusyError: another process holds the adapter.
    """
    if not refs:
        raise UsageError("uninstall needs at least one ref")
    workspace = Workspace(warn=warn)
    rows = []
    items = workspace.matching(refs, broken=True)
    _refuse_needed(workspace, items)
    for item in sorted(items, key=lambda item: -len(item.record.pins) if isinstance(item, Installed) else 0):
        name, version = workspace.identity(item)
        if not dry_run:
            with workspace.store.lock(name, no_wait=no_wait, warn=workspace.warn):
                workspace.store.remove(item)
        rows.append({"name": name, "version": version, "path": item.path})
    return {"removed": rows}


def _refuse_needed(workspace: Workspace, items: Sequence[Any]) -> None:
    """Stop where something installed, that does not go too, was installed with one of these."""
    going = {workspace.identity(item) for item in items if isinstance(item, Installed)}
    for other in workspace.store.installed():
        needed = going & {*other.record.pins.items()}
        if needed and workspace.identity(other) not in going:
            (name, version), by = min(needed), f"{other.record.name} {other.record.version}"
            hint = f"uninstall both: hubcli uninstall {name}@{version} {other.record.name}@{other.record.version}"
            raise PolicyError(f"{name} {version} is needed by the {other.record.kind} {by}", hint=hint)


def list() -> Json:
    """The installed adapters, each with what its index says of it now, and what is wrong with those that can't be read
    (schemas/cli/list).
    """
    problems: builtins.list[str] = []
    workspace = Workspace(warn=problems.append)
    good, broken = workspace.store.scan()
    rows = [{**reports.listed(item), **state_row(workspace.states.release(item.record))} for item in good]
    return {"adapters": rows, "problems": [*(f"{item.path}: {item.error.message}" for item in broken), *problems]}


def upgrade(
    *refs: str,
    dry_run: bool = False,
    no_wait: bool = False,
    offline: bool | None = None,
    token: str | None = None,
    progress: bool = False,
    warn: Warn | None = None,
) -> Json:
    """Install the newest versions of the installed adapters, or of these (schemas/cli/upgrade).

    Every adapter is tried; what failed is listed under `failed`, and under `withdrawn` what stays though it was yanked,
    deprecated, archived or quarantined.

    Raises:
        NotFoundError: a ref names nothing that is installed.
    """
    workspace = Workspace(offline=offline, token=token, warn=warn, refresh=True)
    report = Report(keep_going=True)
    bar = for_terminal() if progress else Silent()
    for item in workspace.newest_installed(refs):
        with report.attempt(item.record.name):
            latest = workspace.newer(item)
            if latest is not None:
                for done in workspace.install_all(latest, bar, dry_run=dry_run, no_wait=no_wait):
                    report.add(done)
    return {**report.document, "withdrawn": workspace.states.withdrawn(workspace.matching(refs))}


def verify(
    *refs: str,
    repair: bool = False,
    dry_run: bool = False,
    offline: bool | None = None,
    token: str | None = None,
    progress: bool = False,
    warn: Warn | None = None,
) -> Json:
    """Hash installed files again and compare (schemas/cli/verify). `repair` fetches again what is damaged.

    Each row says also what its index says of the release now: `state` and `reason`; `ok` is about the files alone.

    Raises:
        NotFoundError: a ref names nothing that is installed.
        HubcliError: with `repair`, what fetching raises; the other adapters were repaired where they could be.
    """
    workspace = Workspace(offline=offline, token=token, warn=warn)
    bar = for_terminal() if progress else Silent()
    rows: builtins.list[Json] = []
    errors: builtins.list[HubcliError] = []
    for item in workspace.matching(refs, broken=True):
        try:
            rows.append(_verified(workspace, item, repair and not dry_run, bar))
        except HubcliError as error:
            if errors:
                workspace.warn(error.message)
            errors.append(error)
    if errors:
        raise errors[0]
    return {"ok": all(row["status"] == "ok" for row in rows), "adapters": rows}


def _verified(workspace: Workspace, item: Any, repair: bool, bar: Progress) -> Json:
    name, version = workspace.identity(item)
    files = item.record.release.files if isinstance(item, Installed) else ()
    bar.start(f"verifying {name}", sum(f.size for f in files))
    try:
        found = workspace.store.verify(item, bar.advance)
    finally:
        bar.done()
    repaired = False
    if repair and not found.ok:
        found = workspace.repair(item, bar)
        repaired = found.ok
    problems = [str(problem) for problem in found.problems]
    state = state_row(workspace.states.release(item.record) if isinstance(item, Installed) else None)
    row = {"name": name, "version": version, "status": found.status, "problems": problems, "repaired": repaired}
    return {**row, **state}
