"""Checking an index folder as its keepers do: every fault of every entry, names that look alike, and edits of what is out.

What a reader tolerates (keys from a newer writer) is a fault here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hubcli import strict_json
from hubcli.errors import EntryError, NotFoundError, UsageError
from hubcli.frozen import frozen
from hubcli.index.changes import changes, dicts, listing, times
from hubcli.index.entries import check_entry
from hubcli.index.owners import PERSON, change_faults, read_owners, state_faults
from hubcli.index.required import doubts, unmet
from hubcli.index.similar import near_collisions, near_groups
from hubcli.index.sources import ENTRY_LIMIT, FILES, META, STATIC, Digest, Raw, read_meta
from hubcli.index.state import OWNERS, State, folder_state
from hubcli.index.static import StaticFolderSource, measure
from hubcli.schema import Fault, shown

Found = tuple[str, Fault]


@frozen
class Report:
    """What a check found: the number of entries, (file, fault) of all that is wrong, what of ownership was looked at, and
    lines of what is no fault and should be known.

    `ownership` is "none" (there is no `_owners.json`), "state" (groups have owners, and repositories are theirs) or "person"
    (and who proposes the change may make it).
    """

    entries: int
    faults: tuple[Found, ...]
    ownership: str = "none"
    notes: tuple[str, ...] = ()


def check_folder(
    folder: Path,
    *,
    against: State | Path | None = None,
    by: str | None = None,
    now: datetime | None = None,
    site: bool = True,
) -> Report:
    """Check an index folder, and what it changes of an older state.

    Args:
        folder: `<group>/<name>.json` and `_files/`.
        against: an older state of the same folder: what was published there must not have changed.
        by: who proposes the change, to be held against the owners of the older state.
        now: the time that nothing new may be ahead of; None asks the clock.
        site: look at a built site that lies at the folder's root too. A mirror checks its entries before it builds theirs.

    Raises:
        NotFoundError: there is no such folder.
        UsageError: `by` without `against`, or no name of an account.
        EntryError: `_index.json` can't be read.
    """
    if by is not None and (against is None or not PERSON.match(by)):
        hint = "" if against is None else f", found {by!a}"
        raise UsageError("--by names who proposes a change: an account's name, with --against REV" + hint)
    state = folder_state(folder)
    base = folder_state(against) if isinstance(against, Path) else against
    documents, faults = _documents(state)
    faults += [
        (ascii(link)[1:-1], Fault("", "a regular file", "a link, a folder or a device", "E_PATH_UNSAFE"))
        for link in state.links
    ]
    faults += _site(folder, state, base) if site else ()
    faults += _stored_files(folder, state, documents.values())
    faults += [*_cycles(documents), *unmet(documents)]
    published = _parsed(base) if base else {}
    faults += _alike(folder, documents, published if base else documents)
    if base is not None:
        faults += _changed(base, state, published, documents, now or datetime.now(UTC))
    ownership, unowned = _owned(state, base, documents, published, by)
    return Report(len(documents), (*faults, *unowned), ownership, tuple(doubts(documents)))


def _documents(state: State) -> tuple[dict[str, Any], list[Found]]:
    """name → document of the entries that parse, and the faults of all."""
    documents: dict[str, Any] = {}
    faults: list[Found] = []
    for name, raw in state.entries.items():
        file = f"{ascii(name)[1:-1]}.json"
        checked = check_entry(raw, name=name, where=file)
        faults += [(file, fault) for fault in checked.faults + checked.unknown]
        if isinstance(checked.document, dict):
            documents[name] = checked.document
    return documents, faults


def _site(folder: Path, state: State, base: State | None) -> Iterator[Found]:
    """A built site at the root, which readers take for the index: it has to be of the entries beside it, or that of before."""
    parts = [STATIC] if state.site is not None else sorted(path.name for path in folder.glob("entries*.jsonl.gz"))
    if not parts or any(link == STATIC or link.startswith("entries") for link in state.links):
        return
    expected = "no part of a built site, which belongs beside the index folder"
    if state.site is None:
        yield from ((part, Fault("", expected, "a file of one", "E_SNAPSHOT")) for part in parts)
        return
    try:
        _, snapshot = StaticFolderSource(folder).changed("") or ("", None)
        assert snapshot is not None, "a site that was never seen has a state"
        served = _digest(snapshot.entries)
    except (EntryError, NotFoundError) as error:
        yield STATIC, Fault("", "a site that can be read, or none", error.message, "E_SNAPSHOT")
        return
    same = base is not None and base.site == state.site
    wanted = served if same else _digest(state.entries.items())
    if {served, snapshot.sha256} != {wanted}:
        expected = f"none, or one built of the entries beside it (snapshot {wanted[:12]})"
        yield STATIC, Fault("snapshot", expected, shown(snapshot.sha256), "E_SNAPSHOT")
    elif not same and snapshot.endpoint != (endpoint := read_meta(folder).get("endpoint")):
        yield STATIC, Fault("endpoint", f"that of {META}: {shown(endpoint)}", shown(snapshot.endpoint), "E_SNAPSHOT")


def _digest(entries: Iterable[Raw]) -> str:
    digest = Digest()
    for name, raw in entries:
        digest.add(name, hashlib.sha256(raw).hexdigest())
    return digest.hexdigest()


def _parsed(base: State) -> dict[str, Any]:
    """name → document of the entries of an older state that a reader can parse."""
    documents: dict[str, Any] = {}
    for name, raw in base.entries.items():
        try:
            document = strict_json.loads(raw, where=name, limit=ENTRY_LIMIT)
        except EntryError:
            continue
        if isinstance(document, dict):
            documents[name] = document
    return documents


def _changed(
    base: State, state: State, published: Mapping[str, Any], documents: Mapping[str, Any], now: datetime
) -> Iterator[Found]:
    """What was published and is other now or gone, releases of the wrong time, and new files that no entry names."""
    for name, old in published.items():
        for fault in changes(old, documents.get(name)):
            yield f"{name}.json", fault
    for name, new in documents.items():
        if base.entries.get(name) != state.entries[name]:
            for fault in times(published.get(name), new, now):
                yield f"{name}.json", fault
    for name in sorted(state.stored - base.stored - listing(documents).keys()):
        yield f"{FILES}/{ascii(name)[1:-1]}", Fault("", "a file that an entry names", "none that does", "E_NOT_FOUND")
    needed = listing(documents, quarantined=False)
    for name in sorted((base.stored - state.stored) & needed.keys()):
        yield (
            f"{FILES}/{ascii(name)[1:-1]}",
            Fault("", f"the file, which {min(needed[name])} lists", "nothing", "E_IMMUTABLE"),
        )


def _alike(folder: Path, documents: Mapping[str, Any], published: Mapping[str, Any]) -> Iterator[Found]:
    """Names, and names of groups, that may be taken for each other; listed pairs are meant."""
    known = {frozenset(pair) for pair in read_meta(folder).get("similar", [])}
    there = {*published, *(f"{name.partition('/')[0]}/" for name in published)}
    for pair in [*near_collisions(documents, documents.keys() - there), *near_groups(documents)]:
        if frozenset(pair) not in known:
            first, second = reversed(pair) if pair[0] not in there and pair[1] in there else pair
            file = second if second.endswith("/") else f"{second}.json"
            expected = f"a name that is not easily taken for another (or the pair under 'similar' in {META})"
            yield file, Fault("name", expected, f"{second} beside {first}", "E_NAME_COLLISION")


def _owned(
    state: State, base: State | None, documents: Mapping[str, Any], published: Mapping[str, Any], by: str | None
) -> tuple[str, list[Found]]:
    """What of ownership was looked at, and what is wrong with it."""
    owners, faults = read_owners(state.owners)
    before, broken = read_owners(base.owners) if base else (None, [])
    if broken:
        faults.append((OWNERS, Fault("", "owners that can be read, before the change", str(broken[0][1]), "E_OWNER")))
    if owners is not None:
        faults += state_faults(owners, documents)
    if base is not None and before is not None and by is not None:
        return "person", [*faults, *change_faults(by, base, state, before, owners, listing(published))]
    if before is not None and state.owners is None:
        faults.append((OWNERS, Fault("", "the owners of groups, as before", "nothing", "E_OWNER")))
    return "none" if owners is None and before is None else "state", faults


def _cycles(documents: dict[str, Any]) -> Iterator[Found]:
    """Entries whose newest releases require each other in a ring."""
    edges = {name: _required(document) for name, document in documents.items()}
    for name, direct in edges.items():
        reached: set[str] = set()
        ahead = [*direct]
        while ahead:
            required = ahead.pop()
            if required not in reached:
                reached.add(required)
                ahead += edges.get(required, ())
        if name in reached and name not in direct:
            yield f"{name}.json", Fault("releases", "requirements that don't lead back", name, "E_CYCLE")


def _required(document: dict[str, Any]) -> list[str]:
    releases = [r for r in dicts(document.get("releases")) if isinstance(r.get("requires"), dict)]
    return [*releases[-1]["requires"]] if releases and document.get("kind") != "adapter" else []


def _stored_files(folder: Path, state: State, documents: Iterable[Any]) -> Iterator[Found]:
    """Files in `_files/` that are not what their name says, those that entries promise another size of, and missing ones."""
    sizes: dict[str, int] = {}
    for name in sorted(state.stored):
        with (folder / FILES / name).open("rb") as stream:
            size, sha256 = measure(stream)
        sizes[sha256] = size
        if sha256 != name:
            yield f"{FILES}/{ascii(name)[1:-1]}", Fault("", "the sha256 that its name is", sha256, "E_HASH")
    for document in documents:
        for number, release in enumerate(dicts(document.get("releases"))):
            for at, spec in enumerate(dicts(release.get("files"))):
                for fault in _file_faults(release, spec, f"releases[{number}].files[{at}]", sizes):
                    yield f"{document.get('name')}.json", fault


def _file_faults(release: dict[str, Any], spec: dict[str, Any], at: str, sizes: dict[str, int]) -> Iterator[Fault]:
    """Another size than that of the file in `_files/`; or, without such a file, no hub. A quarantined release needs none."""
    size = sizes.get(str(spec.get("sha256")))
    if size is not None and size != spec.get("size"):
        yield Fault(f"{shown(spec.get('path'))[1:-1]}.size", str(size), shown(spec.get("size")), "E_SIZE")
    if size is None and not release.get("hub") and release.get("status") != "quarantined":
        expected = f"a file {FILES}/{shown(spec.get('sha256'), 80)[1:-1]} or a hub"
        yield Fault(at, expected, "neither", "E_NOT_FOUND")
