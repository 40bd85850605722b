"""yank, deprecate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli.api.workspace import Workspace
from hubcli.errors import UsageError

if TYPE_CHECKING:
    from hubcli.index.edit import Change
    from hubcli.publishing.place import Place
    from hubcli.refs import Ref

Json = dict[str, Any]


def yank(
    ref: str,
    *,
    reason: str | None = None,
    index: str | Path | None = None,
    replacement: str | None = None,
    undo: bool = False,
    dry_run: bool = False,
    offline: bool | None = None,
) -> Json:
    """Withdraw one release of an index, or take that back (schemas/cli/yank); the release and its files stay.

    Args:
        ref: `group/name@1.2.0`.
        reason: one line, shown to everyone who uses the release; needed unless `undo`.
        index: a folder, edited in place; a configured index by its name; or hf:datasets/ORG/NAME, where a pull request is made.
            None takes the one configured index that can be written.
        replacement: what to use instead: a name or a release of the same index.

    Raises:
        UsageError: no version, no reason, a replacement that is withdrawn itself, an index that can't be written.
        NotFoundError: no such index, entry, version or replacement. EntryError: the entry breaks a rule.
        DiskError, NetworkError, PolicyError, RaceError: it can't be written.
    """
    from datetime import UTC, datetime

    from hubcli.index.edit import named_ref, unyanked, yank_of

    found = named_ref(ref, exact=True)
    if undo and (reason or replacement):
        raise UsageError("--undo takes a yank back: it goes with neither --reason nor --replacement")
    if not undo and not reason:
        raise UsageError("a yank needs a reason, which everyone who uses the release is shown", hint="--reason TEXT")
    other = named_ref(replacement, exact=False) if replacement else None
    if other is not None and (other.name, other.spec) in ((found.name, found.spec), (found.name, "")):
        raise UsageError(f"{found} can't be its own replacement")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    change = unyanked if undo else yank_of(reason or "", now, str(other) if other else None)
    title = f"{'Undo the yank of' if undo else 'Yank'} {found.name} {found.spec.lstrip('=')}"
    return _kept(found, change, title, index, other, dry_run=dry_run, offline=offline)


def deprecate(
    ref: str,
    *,
    reason: str | None = None,
    status: str = "deprecated",
    index: str | Path | None = None,
    dry_run: bool = False,
    offline: bool | None = None,
) -> Json:
    """Give a release, or all releases of an entry, another status (schemas/cli/deprecate).

    Args:
        ref: `group/name` for all its releases, `group/name@1.2.0` for one, `group/name@^1` for those of a range.
        reason: one line, shown with the status; needed unless the status is active.
        status: deprecated, archived (both work, and warn), quarantined (nobody can install it), or active.
        index: as for `yank`.

    Raises:
        UsageError: no reason, or no such status; and as `yank`.
    """
    from hubcli.index.edit import STATUSES, named_ref, status_of

    found = named_ref(ref, exact=False)
    if status not in STATUSES:
        raise UsageError(f"--status: expected one of {', '.join(STATUSES)}, found {status!a}")
    if not reason and status != "active":
        raise UsageError("a status needs a reason, which everyone who uses the release is shown", hint="--reason TEXT")
    verb = {"deprecated": "Deprecate", "archived": "Archive", "quarantined": "Quarantine", "active": "Activate"}[status]
    title = " ".join(filter(None, (verb, found.name, found.spec)))
    return _kept(found, status_of(status, reason), title, index, None, dry_run=dry_run, offline=offline)


def _kept(
    ref: Ref,
    change: Change,
    title: str,
    index: str | Path | None,
    replacement: Ref | None,
    *,
    dry_run: bool,
    offline: bool | None,
) -> Json:
    from hubcli.index.edit import Edited, edit, no_name
    from hubcli.publishing.places import place_of
    from hubcli.publishing.upkeep import keep

    workspace = Workspace(offline=offline)
    place = place_of(index, workspace.config.indexes, token=None, offline=workspace.offline)

    def editing(raw: bytes | None, names: list[str]) -> Edited:
        if replacement is not None and replacement.name not in names:
            raise no_name(replacement.name, names)
        edited = edit(raw, ref, change, names, where=f"{ref.name}.json")
        if replacement is not None:
            same = replacement.name == ref.name
            _refuse_withdrawn(edited.data if same else _entry(place, replacement.name), replacement)
        return edited

    kept = keep(place, ref.name, title, editing, dry_run=dry_run)
    rows = [
        {
            "version": release["version"],
            "yanked": release.get("yanked"),
            "status": release.get("status", "active"),
            "status_reason": release.get("status_reason"),
        }
        for release in kept.edited.releases
    ]
    where = {"kind": place.kind, "where": place.where, "file": kept.file, "pull_request": kept.pull_request}
    return {"name": ref.name, "releases": rows, "index": {**where, "next": kept.next}, "changed": kept.changed}


def _entry(place: Place, name: str) -> bytes:
    """Another entry of the index, as an edit of it would read it; a name that is there."""
    from hubcli.index.state import folder_state

    folder: Path | None = getattr(place, "folder", None)
    raw = place.base(name).entry if folder is None else folder_state(folder).entries[name]
    assert raw is not None, "the index has this name"
    return raw


def _refuse_withdrawn(raw: bytes, replacement: Ref) -> None:
    """Stop at a replacement that there is not, or that is withdrawn itself.

    Raises:
        NotFoundError: there is no such version. UsageError: all that it names is withdrawn. EntryError: the entry breaks a rule.
    """
    from hubcli.index.edit import chosen_versions
    from hubcli.publishing.joining import parsed

    entry = parsed(raw, replacement.name)
    versions = chosen_versions(entry, replacement)
    named = [release for release in entry["releases"] if release["version"] in versions]
    if all(release.get("yanked") or release.get("status") == "quarantined" for release in named):
        word = "yanked" if any(release.get("yanked") for release in named) else "quarantined"
        raise UsageError(f"the replacement {replacement} is {word} itself")
