"""Who may change what in an index: `_owners.json` (schemas/owners), and what it says of a state and of a proposal.

Rights are those of the state before: a proposal can't give its author the right to make it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hubcli import schema, strict_json
from hubcli.errors import EntryError
from hubcli.frozen import frozen
from hubcli.index.changes import dicts
from hubcli.index.sources import FILES, META
from hubcli.index.state import OWNERS, OWNERS_LIMIT, State
from hubcli.refs import NAME_PART
from hubcli.schema import Fault, shown

Found = tuple[str, Fault]
PERSON = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\[\]-]{0,95}\Z")  # an account's name


@frozen
class Owners:
    """Owners by group, and maintainers of the whole index, as the file names them."""

    groups: Mapping[str, tuple[str, ...]]
    maintainers: tuple[str, ...] = ()

    def owns(self, group: str, person: str) -> bool:
        """Is a person among the owners of a group?"""
        return _among(person, "user", self.groups.get(group, ()))

    def maintains(self, person: str) -> bool:
        """Is a person a maintainer of the index?"""
        return _among(person, "user", self.maintainers)

    def publishes(self, group: str, namespace: str) -> bool:
        """May releases of a group lie in repositories of this namespace?"""
        return _among(namespace, "hub", self.groups.get(group, ()))


def _among(name: str, kind: str, owners: tuple[str, ...]) -> bool:
    return name.lower() in {owner.lower().removeprefix(f"{kind}:") for owner in owners}


def read_owners(raw: bytes | None) -> tuple[Owners | None, list[Found]]:
    """An `_owners.json` and its faults; None where there is no file, or one that says nothing."""
    if raw is None:
        return None, []
    try:
        document = strict_json.loads(raw, where=OWNERS, limit=OWNERS_LIMIT)
    except EntryError as error:
        expected, found = "a JSON document within the limits", error.message.removeprefix(f"{OWNERS}: ")
        return None, [(OWNERS, Fault("", expected, found, error.id))]
    faults = [(OWNERS, fault) for fault in schema.check(document, "owners")]
    if faults:
        return None, faults
    bad = [group for group in document["groups"] if not re.fullmatch(NAME_PART, group)]
    faults = [(OWNERS, Fault("groups", "names of groups", shown(group), "E_NAME_CHARSET")) for group in bad]
    groups = {group: tuple(owners) for group, owners in document["groups"].items()}
    return Owners(groups, tuple(document.get("maintainers", ()))), faults


def state_faults(owners: Owners, documents: Mapping[str, dict[str, Any]]) -> Iterator[Found]:
    """What no state may have: a group without owners, and a release on the hub in a namespace that is none of its group's."""
    for group in sorted({_group(name) for name in documents} - owners.groups.keys()):
        yield OWNERS, Fault(f"groups.{shown(group)[1:-1]}", "the owners of the group", "nothing", "E_OWNER")
    for name, document in documents.items():
        group = _group(name)
        for number, release in enumerate(dicts(document.get("releases")) if group in owners.groups else ()):
            hub = release.get("hub")
            repo = hub.get("repo") if isinstance(hub, dict) else None
            if isinstance(repo, str) and not owners.publishes(group, repo.rpartition("/")[0]):
                expected = f"a repository of {_listed(owners.groups[group])}, who own {group}"
                yield f"{name}.json", Fault(f"releases[{number}].hub.repo", expected, shown(repo), "E_OWNER")


def change_faults(
    by: str, base: State, now: State, before: Owners, after: Owners | None, listed: Mapping[str, set[str]]
) -> Iterator[Found]:
    """What a person may not change: entries of groups that others own and their files, others' rights, what the whole index
    rests on. What lies beside an index in its repository is no part of a state, and not judged.

    Args:
        by: who proposes the change.
        base, now: the states before and after.
        before, after: their owners; `after` is None where the proposal takes the file away or breaks it.
        listed: sha256 → names of the entries of `base` that list such a file.
    """
    if before.maintains(by):
        return
    changed = sorted(n for n in base.entries.keys() | now.entries.keys() if base.entries.get(n) != now.entries.get(n))
    for name in changed:
        fault = _refused(by, _group(name), base, before, after)
        if fault is not None:
            yield f"{name}.json", fault
    for stored in sorted(base.stored - now.stored):
        groups = {_group(name) for name in listed.get(stored, ())}
        for group in sorted(group for group in groups if not before.owns(group, by)):
            expected = f"a change by {_listed(before.groups.get(group, ()) + before.maintainers)}: {group} uses it"
            yield f"{FILES}/{ascii(stored)[1:-1]}", Fault("", expected, f"one by {shown(by)}", "E_OWNER")
    for key, old, new in ((META, base.meta, now.meta), (OWNERS, base.owners, now.owners if after else None)):
        if (key == META and old != new) or (old is not None and new is None):
            yield key, Fault("", f"a change by {_listed(before.maintainers)}", f"one by {shown(by)}", "E_OWNER")
    yield from _rights(by, base, now, before, after) if after else ()


def _refused(by: str, group: str, base: State, before: Owners, after: Owners | None) -> Fault | None:
    """Why a person may not change entries of a group, or None. A group that nobody owned and nothing lay in is who claims it."""
    found = f"a change by {shown(by)}"
    if group in before.groups:
        expected = f"a change by {_listed(before.groups[group] + before.maintainers)}, who own {group}"
        return None if before.owns(group, by) else Fault("", expected, found, "E_OWNER")
    if any(_group(name) == group for name in base.entries):
        return Fault("", f"a change by {_listed(before.maintainers)}: {group} has no owner", found, "E_OWNER")
    if after is None or not after.owns(group, by):
        return Fault("", f"{shown(by)} among the owners of the new group {group} in {OWNERS}", found, "E_OWNER")
    return None


def _rights(by: str, base: State, now: State, before: Owners, after: Owners) -> Iterator[Found]:
    """Owners that change: of a group by one of its own, of a new one that has an entry by who claims it, else by maintainers."""
    found = f"a change by {shown(by)}"
    if before.maintainers != after.maintainers:
        yield OWNERS, Fault("maintainers", f"a change by {_listed(before.maintainers)}", found, "E_OWNER")
    held = {_group(name) for name in now.entries} - {_group(name) for name in base.entries}
    for group in sorted(before.groups.keys() | after.groups.keys()):
        old, new = before.groups.get(group), after.groups.get(group)
        claimed = old is None and group in held and after.owns(group, by)
        if old != new and not (before.owns(group, by) if old is not None else claimed):
            expected = (
                f"a change by {_listed((old or ()) + before.maintainers)}"
                if old
                else "a new group with an entry, its owner the proposer"
            )
            yield OWNERS, Fault(f"groups.{shown(group)[1:-1]}", expected, found, "E_OWNER")


def _group(name: str) -> str:
    return name.partition("/")[0]


def _listed(owners: tuple[str, ...]) -> str:
    """Some names for a message."""
    named = ", ".join(dict.fromkeys(owners[:5])) + (", …" if len(owners) > 5 else "")
    return named or "a maintainer (there is none)"
