"""What a mirror is to hold: refs, or everything that the indexes offer, as entries and the versions of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hubcli.errors import HubcliError, UsageError
from hubcli.index.catalog import Catalog
from hubcli.refs import Ref, parse_ref
from hubcli.resolver import Resolver, refuse_elsewhere, refuse_quarantined
from hubcli.versions import in_order

Json = dict[str, Any]


@dataclass(slots=True)
class Wanted:
    """`versions`: name → versions to hold; `indexes`: name → index it is from, where a run said so; what was refused, and why.

    `failed` are refs that a person named, (ref, error); `left_out` what everything does not include, (name and version, reason).
    """

    versions: dict[str, set[str]] = field(default_factory=dict)
    indexes: dict[str, str] = field(default_factory=dict)
    failed: list[tuple[str, HubcliError]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, version: str, index: str) -> None:
        """One release."""
        self.versions.setdefault(name, set()).add(version)
        self.indexes[name] = index


def of_refs(resolver: Resolver, refs: Sequence[str], index: str | None) -> Wanted:
    """The release that an install of each ref would take, with all that it requires; a ref that can't be had is in `failed`."""
    wanted = Wanted()
    for text in refs:
        try:
            ref = _pinned(parse_ref(text), index)
            resolved = resolver.complete(resolver.resolve(ref))
        except HubcliError as error:
            wanted.failed.append((text, error))
            continue
        for part in (*resolved.parts, resolved):
            wanted.add(part.name, part.version, part.index)
    return wanted


def _pinned(ref: Ref, index: str | None) -> Ref:
    if ref.kind != "index":
        kind = "a folder" if ref.kind == "folder" else "a repository without an entry in an index"
        raise UsageError(f"'{ref}' is {kind}: a mirror holds what indexes list", hint="publish it to an index first")
    if index is not None and ref.index not in (None, index):
        raise UsageError(f"'{ref}' names another index than --index {index}")
    return Ref("index", ref.name, ref.spec, index=index or ref.index)


def everything(resolver: Resolver, catalogs: Iterable[Catalog], index: str | None) -> Wanted:
    """Every release of every entry that an install could take, yanked ones included: locks may name them."""
    wanted = Wanted()
    for name, source in _names(catalogs, index):
        try:
            found, entry, _ = resolver.entry(Ref("index", name, index=source if index else None))
        except HubcliError as error:
            wanted.failed.append((name, error))
            continue
        if found.name != source:
            continue
        for version in in_order(release.version for release in entry.releases):
            release = next(r for r in entry.releases if r.version == version)
            try:
                refuse_quarantined(name, release)
                refuse_elsewhere(name, release)
            except HubcliError as error:
                wanted.left_out.append((f"{name}@{version}", error.message))
            else:
                wanted.add(name, version, found.name)
    return wanted


def _names(catalogs: Iterable[Catalog], index: str | None) -> Iterator[tuple[str, str]]:
    """(name, index) of all entries, faulty ones included, so that they are named."""
    for catalog in catalogs:
        if index in (None, catalog.name):
            faulty = {name for name, _ in catalog.faults()}
            yield from ((name, catalog.name) for name in sorted({*catalog.view.names(), *faulty}))
