"""One entry of a mirror: what its index says of it now, cut to the releases that the mirror holds."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from hubcli.errors import EntryError, HubcliError, NotFoundError
from hubcli.index.changes import MUTABLE, changes
from hubcli.index.entries import dump
from hubcli.manifest import Release, Resolved
from hubcli.mirroring.state import Mirror
from hubcli.refs import Ref
from hubcli.resolver import Resolver
from hubcli.versions import Range, in_order

Json = dict[str, Any]


class Merged(NamedTuple):
    """An entry as it is to be: document and bytes, the releases whose files must be there, and what changed of old ones.

    `refreshed` has (version, what is other now); `notes` what a person should know; `kept` that it stays as it was.
    """

    document: Json
    raw: bytes
    releases: tuple[Resolved, ...]
    refreshed: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    kept: bool = False


def merged(resolver: Resolver, mirror: Mirror, name: str, index: str, versions: set[str], *, prune: bool) -> Merged:
    """The entry `name` with these versions, and, without `prune`, those that the mirror holds already.

    Quarantined releases are always listed: without files, and so that whoever has one is told.

    Raises:
        EntryError: the index has other contents for a release that the mirror holds (E_IMMUTABLE), or a faulty entry.
        NotFoundError, NetworkError: the index has not got the entry, or can't be asked.
    """
    found, entry, _ = resolver.entry(Ref("index", name, index=index))
    raw = found.lookup(name)
    assert raw is not None, "it was just found"
    document: Json = json.loads(raw)
    held = set() if prune else mirror.versions(name)
    old = {r["version"]: r for r in mirror.documents.get(name, {}).get("releases", ())}
    now = {r["version"]: r for r in document["releases"]}
    _same(name, old, now, index)
    keep = versions | held | {v for v, r in now.items() if r.get("status") == "quarantined"}
    gone = [old[version] for version in in_order(held - now.keys())]
    releases = [release for release in document["releases"] if release["version"] in keep] + gone
    cut = len(releases) != len(document["releases"]) or bool(gone)
    document = {**document, "releases": releases}
    typed = {r.version: r for r in map(Release.from_json, releases) if r.status != "quarantined"}
    wanted = tuple(
        Resolved(
            name, version, f"{name}@{version}", typed[version], found.name, entry.kind, entry.description,
            endpoint=found.endpoint, file_roots=found.file_roots,
        )
        for version in in_order(typed)
    )  # fmt: skip
    notes = tuple(f"{name} {r['version']} is kept as it was: index {index} has it no more" for r in gone)
    return Merged(document, dump(document) if cut else raw, wanted, tuple(_refreshed(old, now)), notes)


def kept(mirror: Mirror, name: str, index: str, why: HubcliError) -> Merged:
    """An entry as it was, where its index can't be asked: no file is fetched for it, but those there must be right."""
    document = mirror.documents[name]
    releases = [r for r in map(Release.from_json, document["releases"]) if r.status != "quarantined"]
    wanted = tuple(
        Resolved(
            name, r.version, f"{name}@{r.version}", r, index, document["kind"], document["description"],
            endpoint=mirror.endpoint,
        )
        for r in releases
    )  # fmt: skip
    note = f"{name} is kept as it was, and what was withdrawn since is not known: {why.message}"
    return Merged(document, mirror.raw[name], wanted, (), (note,), kept=True)


def _same(name: str, old: dict[str, Json], now: dict[str, Json], index: str) -> None:
    for version, release in old.items():
        if version in now and (faults := changes({"releases": [release]}, {"releases": [now[version]]})):
            raise EntryError(
                f"{name} {version}: index {index} has another {faults[0].field.partition('.')[2]} than the mirror holds",
                cause="a published version never changes; the mirror keeps what it has",
                id="E_IMMUTABLE",
            )


def _refreshed(old: dict[str, Json], now: dict[str, Json]) -> list[tuple[str, str]]:
    """What else than its contents changed of a release that is there."""
    found = []
    for version, release in old.items():
        for key in MUTABLE if version in now else ():
            if (release.get(key) or None) != (now[version].get(key) or None):
                found.append((version, key))
    return found


def unmet(documents: dict[str, Json]) -> list[tuple[str, str, str]]:
    """(name, version, what it lacks) of compositions and fusions that the mirror has not got all parts of."""
    offered = {
        name: [r["version"] for r in document["releases"] if r.get("status") != "quarantined"]
        for name, document in documents.items()
    }
    found = []
    for name, document in documents.items():
        for release in document["releases"] if document["kind"] != "adapter" else ():
            if release.get("status") == "quarantined":
                continue
            for part, spec in release.get("requires", {}).items():
                if not any(Range(spec).allows(version) for version in offered.get(part, ())):
                    found.append((name, release["version"], f"{part} {spec}"))
                    break
    return found


def without(document: Json, version: str) -> Json | None:
    """An entry without one release; None where none is left that could be installed."""
    releases = [release for release in document["releases"] if release["version"] != version]
    left = any(release.get("status") != "quarantined" for release in releases)
    return {**document, "releases": releases} if left else None


def missing(name: str, index: str) -> NotFoundError:
    """The error of an entry whose index is not configured any more."""
    return NotFoundError(f"the index {index} that {name} is from is not configured")
