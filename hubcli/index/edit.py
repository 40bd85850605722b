"""What maintainers change of a published release: `yanked`, `status` and `status_reason`, and nothing else."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from hubcli.errors import NotFoundError, UsageError
from hubcli.frozen import frozen
from hubcli.index.changes import changes
from hubcli.index.entries import check_entry, dump, raise_faults
from hubcli.refs import Ref, parse_ref
from hubcli.versions import Range, in_order

Json = dict[str, Any]
Change = Callable[[Json], Json]
STATUSES = ("deprecated", "archived", "quarantined", "active")


@frozen
class Edited:
    """An entry after an edit: its file's bytes, the releases that were named, and whether anything is other than before."""

    data: bytes
    releases: tuple[Json, ...]
    changed: bool

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that were named."""
        return tuple(release["version"] for release in self.releases)


def named_ref(text: str, *, exact: bool) -> Ref:
    """What a maintainer names: an entry, with a version or, unless `exact`, a range or nothing.

    Raises:
        RefError: it is no ref. UsageError: it is no name in an index, or not exactly one version.
    """
    ref = parse_ref(text)
    if ref.kind != "index" or ref.index:
        raise UsageError(
            f"expected group/name{'@VERSION' if exact else ''}, found '{ref}'", hint="the index is --index"
        )
    if exact and (not ref.spec or Range(ref.spec).exact is None):
        raise UsageError(
            f"'{ref}': expected one version", hint=f"{ref.name}@VERSION; 'hubcli info {ref.name}' shows them"
        )
    return ref


def yank_of(reason: str, date: str, replacement: str | None) -> Change:
    """Yank a release; one that is yanked keeps its date."""

    def change(release: Json) -> Json:
        since = (release.get("yanked") or {}).get("date", date)
        return {**release, "yanked": {"reason": reason, "date": since, "replacement": replacement}}

    return change


def unyanked(release: Json) -> Json:
    """Take a yank back."""
    return {**release, "yanked": None} if release.get("yanked") else release


def status_of(status: str, reason: str | None) -> Change:
    """Give a release another status, with its reason."""

    def change(release: Json) -> Json:
        same = release.get("status", "active") == status and release.get("status_reason") == reason
        return release if same else {**release, "status": status, "status_reason": reason}

    return change


def edit(raw: bytes | None, ref: Ref, change: Change, names: Iterable[str], *, where: str) -> Edited:
    """Apply a change to the releases of an entry that a ref names: all of them, where it has no range.

    Args:
        raw: the entry's file; None where the index has no such name.
        names: all names of the index, to say which was meant.
        where: the file, for messages.

    Raises:
        NotFoundError: there is no such name or version; says what there is.
        EntryError: the entry breaks a rule, before or after.
    """
    if raw is None:
        raise no_name(ref.name, names)
    before = check_entry(raw, name=ref.name, where=where)
    raise_faults(where, before.faults + before.unknown)
    assert before.document is not None, "an entry without faults was parsed"
    old = before.document
    chosen = chosen_versions(old, ref)
    releases = [change(r) if r["version"] in chosen else r for r in old["releases"]]
    data = dump({**old, "releases": releases})
    after = check_entry(data, name=ref.name, where=where)
    raise_faults(where, after.faults + after.unknown)
    assert after.document is not None and not changes(old, after.document), "an edit keeps what is published"
    named = tuple(r for r in after.document["releases"] if r["version"] in chosen)
    return Edited(data, named, after.document != old)


def chosen_versions(entry: Json, ref: Ref) -> list[str]:
    """The versions of an entry that a ref names.

    Raises:
        NotFoundError: none of them; says what there is.
    """
    versions = in_order(release["version"] for release in entry["releases"])
    allowed = Range(ref.spec) if ref.spec else None
    chosen = [version for version in versions if allowed is None or allowed.allows(version)]
    if not chosen:
        raise NotFoundError(f"{ref.name} has no version {ref.spec} (there are: {', '.join(versions)})")
    return chosen


def no_name(name: str, names: Iterable[str]) -> NotFoundError:
    """The error for a name that the index has not, with close ones."""
    close = difflib.get_close_matches(name, [*names], 3)
    hint = "did you mean " + " or ".join(f"'{one}'" for one in close) + "?" if close else None
    return NotFoundError(f"the index has no {name}", hint=hint)
