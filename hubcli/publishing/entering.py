"""From a release to an index: found there already, waiting already, or written; with the rights that the index asks for."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping

from hubcli.errors import EntryError, PolicyError, RaceError
from hubcli.frozen import frozen
from hubcli.hub.transport import own_endpoint
from hubcli.index.entries import dump, raise_faults
from hubcli.index.owners import Owners, read_owners
from hubcli.index.state import OWNERS
from hubcli.manifest import Release
from hubcli.publishing.draft import Draft
from hubcli.publishing.endpoints import hub_told
from hubcli.publishing.joining import has, joined, parsed, release_in
from hubcli.publishing.place import Base, Place, Waiting, Written
from hubcli.publishing.refused import LOG_IN
from hubcli.versions import newest

TRIES = 4


@frozen
class Entered:
    """Where a release stands: `written` says how it gets on, `files` what was or would be written, path → bytes.

    `notes` say whose rights are written, and what a person has to add.
    """

    written: Written | None
    files: dict[str, bytes]
    notes: tuple[str, ...] = ()


def entered(
    place: Place, draft: Draft, release: Release, publisher: str | None, *, dry_run: bool, say: Callable[[str], None]
) -> Entered:
    """Bring a release into an index; what is there, or proposed, is not written twice.

    Args:
        publisher: the namespace on the hub that owns a new group; None where that is not known.
        dry_run: write nothing; `written` is None where something would be.

    Raises:
        EntryError: E_IMMUTABLE, the version is there with another content; or a rule of entries is broken.
        PolicyError: E_OWNER, the group is others'. RaceError: the index is written by others all the time.
    """
    for number in range(1, TRIES + 1):
        base = place.base(draft.name)
        if has(base.entry, draft, release, where=place.where):
            return Entered(Written(changed=False), {})
        waiting = place.waiting(draft.name, release.version)
        if waiting is not None:
            _check_waiting(waiting, draft, release)
            return Entered(waiting.written, {})
        owners, notes = _owners(base, draft, publisher, place)
        meta, told = hub_told(base, place, own_endpoint()) if release.hub is not None else ({}, ())
        files = {**meta, f"{draft.name}.json": joined(draft, release, base.entry), **owners}
        notes = (*notes, *told, *_beside(place, base, draft.name, release.version))
        if dry_run:
            return Entered(None, files, notes)
        try:
            return Entered(place.write(base, files, draft.name, release.version), files, notes)
        except RaceError as error:
            if number == TRIES:
                raise
            say(f"{error.message}; trying again")
    raise AssertionError("the last try returns or raises")


def _beside(place: Place, base: Base, name: str, version: str) -> Iterator[str]:
    """What a person should know of the entry's other versions: those that wait, and a newer one that is out."""
    from semantic_version import validate

    there = [release["version"] for release in parsed(base.entry, name)["releases"]] if base.entry is not None else []
    for other, where in place.proposed(name):
        if validate(other) and other not in (*there, version):
            yield f"{name} {other} waits in {where}: let it be merged first, or the two conflict"
    last = newest(there)
    if last is not None and newest([last, version]) == last:
        yield f"{version} is older than {last}, which {name} has already: who asks for no version goes on to get {last}"


def _check_waiting(waiting: Waiting, draft: Draft, release: Release) -> None:
    """Refuse a proposal of this name and version that is not this release."""
    where = waiting.written.pull_request or f"the branch {waiting.written.branch}"
    try:
        if has(waiting.entry, draft, release, where=where):
            return
        said = f"{where} has no {draft.name} {release.version}"
    except EntryError as error:
        said = error.message if where in error.message else f"{where}: {error.message}"
    raise EntryError(said, hint=waiting.undo, id="E_IMMUTABLE")


def requires_of(place: Place, base: Base, name: str, version: str) -> Mapping[str, str]:
    """What a release requires that is in the index, or proposed: ranges that follow the newest versions stay as they were."""
    found = release_of(place, base, name, version)
    return found.requires if found is not None else {}


def release_of(place: Place, base: Base, name: str, version: str) -> Release | None:
    """The release of this version that is in the index, or proposed: what its draft infers from what may move stays as it was.

    None where there is no such release, or none that can be read: that is told when the two are compared.
    """
    waiting = place.waiting(name, version)
    for entry in (base.entry, waiting.entry if waiting is not None else None):
        with contextlib.suppress(EntryError):
            if (found := release_in(entry, name, version)) is not None:
                return found
    return None


def check_rights(base: Base, draft_name: str, publisher: str | None, where: str) -> None:
    """Refuse to publish into a group that others own.

    Raises:
        PolicyError: E_OWNER, with the owners' names. EntryError: `_owners.json` can't be read.
    """
    group = draft_name.partition("/")[0]
    owners, faults = read_owners(base.owners)
    raise_faults(f"{where}/{OWNERS}", tuple(fault for _, fault in faults))
    if owners is None or publisher is None or group not in owners.groups or owners.publishes(group, publisher):
        return
    named = ", ".join(owners.groups[group])
    message = f"{where}: the group {group} is owned by {named}, not by {publisher}"
    hint = (
        f"publish under a group of your own, e.g. {publisher.lower()}/{draft_name.partition('/')[2]}, or ask its owners"
    )
    raise PolicyError(message, hint=hint, id="E_OWNER")


def _owners(base: Base, draft: Draft, publisher: str | None, place: Place) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """`_owners.json` with the owners of a new group, where the index has owners at all; and what to know of it.

    The namespace that publishes owns the group's repositories and is nobody's account: a person is who says so, or whom the
    hub shows as the pull request's author.
    """
    check_rights(base, draft.name, publisher, place.where)
    group = draft.name.partition("/")[0]
    owners, _ = read_owners(base.owners)
    if owners is None or base.owners is None:
        return {}, (f"{place.where} has no {OWNERS}: --by {place.by} is not looked at",) if place.by else ()
    if group in owners.groups:
        _check_person(owners, group, place)
        return {}, ()
    if publisher is None:
        message = f"{place.where}: {group} is a new group, and who would own it is not known"
        raise PolicyError(message, hint=LOG_IN, id="E_OWNER")
    person = place.proposer()
    new = [f"hub:{publisher}", *([f"user:{person}"] if person else [])]
    document = json.loads(base.owners)
    document["groups"] = dict(sorted({**document["groups"], group: new}.items()))
    note = f"{group} is a new group of {place.where}, owned by {' and '.join(new)}"
    if not person:
        note += (
            ", and by no person: say --by ACCOUNT, as the index's check will name you (on GitHub your login), or add "
        )
        note += f'"user:ACCOUNT" to {group} in {OWNERS}; else only its maintainers may take it in'
    return {OWNERS: dump(document)}, (note,)


def _check_person(owners: Owners, group: str, place: Place) -> None:
    """Refuse a proposal that the index's check would refuse, where it was said who proposes."""
    person = place.proposer() if place.by else None
    if person is None or owners.owns(group, person) or owners.maintains(person):
        return
    message = f"{place.where}: the group {group} is owned by {', '.join(owners.groups[group])}, not by {person}"
    raise PolicyError(message, hint="ask its owners to propose it, or to add you", id="E_OWNER")
