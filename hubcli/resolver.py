"""From a ref to one release: the first index that has the name wins, then the newest version that is allowed.

No solver: each name alone. Yanked releases are taken only by an exact version, with a warning; quarantined ones never.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from hubcli.config import no_index
from hubcli.errors import NetworkError, NotFoundError, PolicyError, UsageError, YankedError
from hubcli.refs import Ref, folder_meant
from hubcli.versions import Range, in_order

if TYPE_CHECKING:
    from hubcli.compositions import Need
    from hubcli.index.view import Hit
    from hubcli.manifest import Entry, Release, Resolved
    from hubcli.schema import Fault


class Index(Protocol):
    """What the resolver asks of an index; `hubcli.index.catalog.Catalog` is one."""

    name: str

    @property
    def snapshot_sha256(self) -> str:
        """The identity of the state that answers."""

    @property
    def endpoint(self) -> str | None:
        """The hub that the index names for its files."""

    @property
    def file_roots(self) -> tuple[str, ...]:
        """Folders or URLs that hold files by sha256."""

    def serves(self, name: str) -> bool:
        """Is it asked for this name?"""

    def pins(self, name: str) -> bool:
        """Is no index without a scope asked for this name?"""

    def has(self, name: str) -> bool:
        """Does it have this name?"""

    def lookup(self, name: str) -> bytes | None:
        """The bytes of a checked entry."""

    def names_like(self, name: str, limit: int = 3) -> list[str]:
        """Names close to this one."""

    def names_near(self, name: str) -> list[str]:
        """Other names that a person may take for this one."""

    def search(self, query: str, *, limit: int, **filters: str | None) -> list[Hit]:
        """Ranked hits."""

    def faults(self) -> list[tuple[str, Fault]]:
        """(name, fault) of entries that were refused."""


class Resolver:
    """Resolution and search over indexes in their order. Indexes that are not needed are not opened."""

    def __init__(self, indexes: Iterable[Index]):
        self.indexes: Sequence[Index] = tuple(indexes)
        self.skipped: dict[str, str] = {}

    def entry(self, ref: Ref) -> tuple[Index, Entry, str]:
        """The entry that a ref names: (index, entry, sha256 of its bytes).

        Raises:
            NotFoundError: no index has the name, with close names; or no index is called as the ref says.
            EntryError: the first index that has the name has a faulty entry: no other index is asked.
            NetworkError: an index that has to be asked does not answer: no other index is asked.
        """
        from hashlib import sha256

        from hubcli.manifest import Entry

        asked = self._asked(ref)
        for index in asked:
            raw = index.lookup(ref.name)
            if raw is not None:
                return index, Entry.from_json(json.loads(raw)), sha256(raw).hexdigest()
        raise self._unknown_name(ref, asked)

    def resolve(self, ref: Ref, needs: Sequence[Need] = ()) -> Resolved:
        """The release that a ref of kind "index" stands for; what it requires is not looked at (see `complete`).

        Args:
            ref: name, range and index.
            needs: further ranges that the version has to meet, with who has them.

        Raises:
            NotFoundError: no such name or version; says what there is. E_CONFLICT, no version meets all needs: they are named.
            YankedError: E_QUARANTINED, or E_YANKED where all versions that fit are withdrawn.
            PolicyError: E_ARCHIVE, it is an archive elsewhere: where, and what to do with it by hand.
            EntryError, NetworkError: as `entry`.
        """
        from hubcli.manifest import Resolved

        if ref.kind != "index":
            raise UsageError(f"'{ref}' is no index ref")
        index, entry, entry_sha256 = self.entry(ref)
        release = choose(ref, entry, needs)
        refuse_elsewhere(entry.name, release)
        return Resolved(
            name=entry.name,
            version=release.version,
            requested=str(ref),
            release=release,
            index=index.name,
            kind=entry.kind,
            description=entry.description,
            entry_sha256=entry_sha256,
            snapshot_sha256=index.snapshot_sha256,
            endpoint=index.endpoint,
            file_roots=index.file_roots,
            warnings=warnings_of(entry.name, release),
        )

    def complete(self, resolved: Resolved) -> Resolved:
        """A release with all that it requires, where it requires something: each name in the newest version that all allow.

        Raises:
            EntryError: E_CYCLE, E_REQUIRES; BaseMismatchError: as `hubcli.compositions.gather`.
            NotFoundError: E_CONFLICT and others, as `resolve`.
        """
        if resolved.kind == "adapter":
            return resolved
        from hubcli.compositions import Need, gather
        from hubcli.refs import Ref

        def pick(name: str, needs: tuple[Need, ...]) -> Resolved:
            return resolved if name == resolved.name else self.resolve(Ref("index", name), needs)

        return with_parts(resolved.name, gather({resolved.name: Need("", "you")}, pick))

    def review(self, resolved: Resolved) -> Resolved:
        """A locked or installed release with today's status from its index: warnings when yanked or deprecated.

        Where its index is not configured, or has it no more, it is returned with a warning.

        Raises:
            YankedError: E_QUARANTINED.
        """
        from hubcli.manifest import Entry

        index = next((index for index in self.indexes if index.name == resolved.index), None)
        raw = index.lookup(resolved.name) if index else None
        entry = Entry.from_json(json.loads(raw)) if raw else None
        now = next((r for r in entry.releases if r.version == resolved.version), None) if entry else None
        label = f"{resolved.name} {resolved.version}"
        if index is None or now is None:
            gone = f"index '{resolved.index}' " + ("is not configured" if index is None else "has it no more")
            return replace(resolved, warnings=(*resolved.warnings, f"{label}: its status is unknown: {gone}"))
        refuse_quarantined(resolved.name, now)
        warnings = tuple(dict.fromkeys((*resolved.warnings, *warnings_of(resolved.name, now))))
        return replace(resolved, warnings=warnings, endpoint=index.endpoint, file_roots=index.file_roots)

    def search(self, query: str = "", *, limit: int = 20, **filters: str | None) -> list[Hit]:
        """Ranked hits over all indexes; a name counts where resolution would find it.

        Filters: `task`, `method`, `base`, `language`, `license`. A remote index that was never fetched, and can't be
        fetched now, is not searched; `skipped` then says so by index name.
        """
        hits: list[Hit] = []
        searched: list[Index] = []
        for index in self.indexes:
            try:
                found = index.search(query, limit=limit, **filters)
            except NetworkError as error:
                self.skipped[index.name] = error.message
                continue
            hits += (
                [hit for hit in found if self._offers(index, hit.name, searched)] if len(self.indexes) > 1 else found
            )
            searched.append(index)
        return hits if len(searched) < 2 else sorted(hits, key=lambda hit: (-hit.score, hit.name))[:limit]

    def faults(self) -> list[str]:
        """Entries that were refused, one line a fault: index, file, field, expected, found."""
        asked = [index for index in self.indexes if index.name not in self.skipped]
        found = [(index.name, name, fault) for index in asked for name, fault in index.faults()]
        return [f"{index}: {ascii(name)[1:-1]}.json: {fault}" for index, name, fault in found]

    def _offers(self, index: Index, name: str, before: list[Index]) -> bool:
        """Would resolution take this name from this index, given those that come before it?"""
        serving = self._serving(name)
        return index in serving and not any(other.has(name) for other in before if other in serving)

    def _serving(self, name: str) -> list[Index]:
        """The indexes that may answer for a name: those whose scopes pin it, else those without scopes."""
        serving = [index for index in self.indexes if index.serves(name)]
        return [index for index in serving if index.pins(name)] or serving

    def _asked(self, ref: Ref) -> list[Index]:
        if ref.index is None:
            return self._serving(ref.name)
        pinned = [index for index in self.indexes if index.name == ref.index]
        if not pinned:
            raise no_index(ref.index, [index.name for index in self.indexes])
        return pinned

    def _unknown_name(self, ref: Ref, asked: list[Index]) -> NotFoundError:
        close = list(dict.fromkeys(name for index in asked for name in index.names_like(ref.name)))[:3]
        where = ", ".join(index.name for index in asked) or "none"
        hint = "search for it: hubcli search WORDS"
        if close:
            hint = "did you mean " + " or ".join(f"'{name}'" for name in close) + "?"
        hint = folder_meant(ref.name) or hint
        return NotFoundError(f"no adapter is called '{ref.name}' (indexes asked: {where})", hint=hint)


def with_parts(name: str, found: Mapping[str, Resolved]) -> Resolved:
    """One of the releases found together, with its requirements among them as `parts` and `pins`."""
    from hubcli.compositions import closure

    def pins(name: str) -> dict[str, str]:
        return {part.name: part.version for part in closure(name, found)}

    parts = tuple(replace(part, pins=pins(part.name)) for part in closure(name, found))
    return replace(found[name], parts=parts, pins=pins(name))


def choose(ref: Ref, entry: Entry, needs: Sequence[Need] = ()) -> Release:
    """The release of an entry that a ref stands for; see `Resolver.resolve`."""
    ranges = [Range(spec) for spec in (ref.spec, *(need.spec for need in needs)) if spec] or [Range("")]
    fits = {r.version: r for r in entry.releases if all(wanted.allows(r.version) for wanted in ranges)}
    if not fits:
        raise _conflict(ref, needs) if needs else _no_version(ref, entry)
    usable = {v: r for v, r in fits.items() if r.status != "quarantined"}
    if not usable:
        refuse_quarantined(entry.name, fits[in_order(fits)[-1]])
    exact = any(wanted.exact is not None for wanted in ranges)
    offered = {v: r for v, r in usable.items() if r.yanked is None or exact}
    if not offered:
        raise _all_withdrawn(ref, fits)
    return offered[in_order(offered)[-1]]


def warnings_of(name: str, release: Release) -> tuple[str, ...]:
    """What a person should know before using a release: yanked, deprecated or archived, each with its reason."""
    found = []
    label = f"{name} {release.version}"
    if release.yanked:
        instead = f"; use {release.yanked.replacement} instead" if release.yanked.replacement else ""
        found.append(f"{label} was yanked on {release.yanked.date[:10]}: {release.yanked.reason}{instead}")
    if release.status in ("deprecated", "archived"):
        found.append(f"{label} is {release.status}" + (f": {release.status_reason}" if release.status_reason else ""))
    return tuple(found)


def refuse_quarantined(name: str, release: Release) -> None:
    """Stop at a release that its index has quarantined.

    Raises:
        YankedError: E_QUARANTINED.
    """
    if release.status == "quarantined":
        reason = release.status_reason or "no reason given"
        hint = "there is no way around it: ask the people who keep the index"
        raise YankedError(f"{name} {release.version} is quarantined: {reason}", hint=hint, id="E_QUARANTINED")


def refuse_elsewhere(name: str, release: Release) -> None:
    """Stop at a release that is an archive somewhere else.

    Raises:
        PolicyError: E_ARCHIVE.
    """
    if release.origin is None or not release.elsewhere:
        return
    origin, folder = release.origin, name.rpartition("/")[2]
    raise PolicyError(
        f"{name} {release.version} is a {origin.format} archive elsewhere, which hubcli lists and does not install",
        cause=f"{origin.url} (sha256 {origin.sha256})",
        hint=f"fetch it by hand, compare its sha256, unpack it into ./{folder}, then: hubcli convert ./{folder} --to "
        f"{origin.library} --out ./{folder}-safe",
        id="E_ARCHIVE",
    )


def to_json(hits: Iterable[Hit]) -> dict[str, Any]:
    """The JSON document of `search`."""
    keys = ("name", "version", "method", "task", "base", "description", "score", "installable")
    return {"hits": [{key: getattr(hit, key) for key in keys} for hit in hits]}


def _no_version(ref: Ref, entry: Entry) -> NotFoundError:
    ordered = in_order(release.version for release in entry.releases)
    there_are = ", ".join(reversed(ordered[-8:])) + (", …" if len(ordered) > 8 else "")
    wanted = ref.spec or "(a version that is no prerelease)"
    hint = f"take one of them: hubcli install {ref.name}@{ordered[-1]}"
    return NotFoundError(f"{ref.name} has no version {wanted} (there are: {there_are})", hint=hint)


def _conflict(ref: Ref, needs: Sequence[Need]) -> NotFoundError:
    from hubcli.compositions import Need

    asked = [*([Need(ref.spec, "you")] if ref.spec else []), *needs]
    wanted = ", ".join(f"{need.by}: {need.spec or 'any that is no prerelease'}" for need in asked)
    return NotFoundError(f"no version of {ref.name} is what all ask for ({wanted})", id="E_CONFLICT")


def _all_withdrawn(ref: Ref, fits: Mapping[str, Release]) -> YankedError:
    """Nothing that fits can be taken, and an exact version would give one that is yanked."""
    yanked = {v: r for v, r in fits.items() if r.status != "quarantined"}
    version = in_order(yanked)[-1]
    withdrawn = yanked[version].yanked
    reason = withdrawn.reason if withdrawn else ""
    hint = f"an exact version insists: {ref.name}@{version}"
    if withdrawn and withdrawn.replacement:
        hint = f"use {withdrawn.replacement}; {hint}"
    elif len(yanked) < len(fits):
        hint += ", though it is yanked"
    if len(yanked) == len(fits):
        return YankedError(f"every version of {ref} is yanked; {version}: {reason}", hint=hint)
    told = [f"{v} is {_withdrawal(fits[v])}" for v in reversed(in_order(fits))]
    return YankedError(f"every version of {ref} is withdrawn: {'; '.join(told)}", hint=hint)


def _withdrawal(release: Release) -> str:
    if release.status == "quarantined":
        return f"quarantined: {release.status_reason or 'no reason given'}"
    return f"yanked: {release.yanked.reason}" if release.yanked else release.status
