"""One run of `mirror`: what is wanted, what is there, what is fetched, and one switch from the old state to the new one."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hubcli.errors import DiskError, EntryError, HubcliError, NotFoundError, PolicyError
from hubcli.index.build import build_site
from hubcli.index.check import check_folder
from hubcli.index.entries import dump
from hubcli.index.similar import near_collisions, near_groups
from hubcli.index.sources import FILES
from hubcli.manifest import Resolved
from hubcli.mirroring.files import Files
from hubcli.mirroring.merge import Merged, kept, merged, missing, unmet, without
from hubcli.mirroring.state import MARK, Mirror, put, served, undone_on_error, write_meta
from hubcli.mirroring.wanted import Wanted
from hubcli.resolver import Resolver

Json = dict[str, Any]
Owners = Callable[[str, str], list[str] | None]
NOTHING_REMOVED = "nothing is removed this time: not all that is asked for could be had"
SHOWN = 5


@dataclass(slots=True)
class Outcome:
    """What a run did: rows of `mirrored`, `refreshed`, `removed`; `failed` as (ref, error); `notes`; the snapshot served."""

    mirrored: list[Json] = field(default_factory=list)
    refreshed: list[Json] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    failed: list[tuple[str, HubcliError]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    snapshot: str | None = None


class Run:
    """Brings one mirror to what is wanted.

    Args:
        mirror: as it is.
        wanted: what it is to hold.
        prune: take away what is not wanted any more, if all that is wanted can be had.
        owners: (index, group) → who owns the group there, None where that is not known.

    `lost`: name → hashes of files that releases held so far should have, and that are gone bad and can't be had again.
    """

    def __init__(
        self, mirror: Mirror, wanted: Wanted, resolver: Resolver, files: Files, *, prune: bool, owners: Owners
    ) -> None:
        self.mirror, self.wanted, self.resolver, self.files = mirror, wanted, resolver, files
        self.prune, self.owners = prune, owners
        self._cuts = prune and not wanted.failed  # nothing goes where something that is wanted could not be had
        self._brought: dict[tuple[str, str], bool | HubcliError] = {}
        self._begin()

    def _begin(self) -> None:
        self.outcome = Outcome(failed=list(self.wanted.failed))
        self.outcome.notes += [NOTHING_REMOVED] if self.prune and not self._cuts else []
        self.entries: dict[str, Merged] = {}
        self.documents: dict[str, Json] = {}
        self.lost: dict[str, set[str]] = {}

    def plan(self) -> None:
        """Every entry as it is to be. What its index can't tell of now stays as it was."""
        old = set() if self._cuts else self.mirror.documents.keys()
        for name in sorted(self.wanted.versions.keys() | old):
            index = self.wanted.indexes.get(name) or self.mirror.indexes.get(name, "")
            versions = self.wanted.versions.get(name, set())
            try:
                self._refuse_other(name, index)
                if index not in {known.name for known in self.resolver.indexes}:
                    raise missing(name, index)
                entry = merged(self.resolver, self.mirror, name, index, versions, prune=self._cuts)
            except HubcliError as error:
                if name not in self.mirror.documents:
                    self.outcome.failed.append((name, error))
                    continue
                told = {failed.message for _, failed in self.wanted.failed}
                if error.message not in told and (versions or not isinstance(error, NotFoundError)):
                    self.outcome.failed.append((name, error))
                entry = kept(self.mirror, name, self.mirror.indexes.get(name, index), error)
            if not entry.kept:
                self.mirror.indexes[name] = index
            self.entries[name] = entry
            self.outcome.notes += entry.notes
            self.outcome.refreshed += [
                {"name": name, "version": version, "what": what} for version, what in entry.refreshed
            ]

    def _refuse_other(self, name: str, index: str) -> None:
        """Stop where a name that came from one index would come from another."""
        before = self.mirror.indexes.get(name) if name in self.mirror.documents else None
        if before not in (None, index):
            raise PolicyError(
                f"{name} is from index {before} in this mirror, and would come from {index} now",
                hint=f"mirror {index} into a folder of its own; --prune takes away what is not asked for",
            )

    def fetch(self, *, dry_run: bool) -> None:
        """Bring the files of every release. What is new and can't be had is left out, with what requires it; what was held
        stays listed, so that a later run brings it.
        """
        self._bring_all(dry_run)
        if self._cuts and self.outcome.failed:
            self._cuts = False
            self._begin()
            self.plan()
            self._bring_all(dry_run)

    def _bring_all(self, dry_run: bool) -> None:
        for name, entry in self.entries.items():
            self.documents[name] = entry.document
            for release in entry.releases:
                key = name, release.version
                if key not in self._brought:
                    self._brought[key] = self._bring(release, dry_run)
                found = self._brought[key]
                if isinstance(found, HubcliError):
                    self._miss(name, release, found, dry_run)
                else:
                    self._row(name, release, found)
        self._complete()

    def _bring(self, release: Resolved, dry_run: bool) -> bool | HubcliError:
        """Whether a release is other than it was here; or why it can't be had."""
        try:
            return bool(self.files.missing(release)) if dry_run else self.files.bring(release)
        except DiskError:
            raise
        except HubcliError as error:
            return error

    def _miss(self, name: str, release: Resolved, error: HubcliError, dry_run: bool) -> None:
        """What can't be had: a release that the mirror holds stays, without the file that is bad; another is left out."""
        bad = {spec.sha256 for spec in self.files.missing(release)} if self.mirror.has(name, release.version) else set()
        if not bad:
            self._drop(name, release.version, error)
            return
        self.outcome.failed.append((f"{name}@{release.version}", error))
        self.lost.setdefault(name, set()).update(bad)
        for sha256 in () if dry_run else bad:
            self._remove(self.mirror.file(sha256))

    def _complete(self) -> None:
        """Leave out what requires something that is not there."""
        while lacking := unmet(self.documents):
            name, version, part = lacking[0]
            self._drop(name, version, NotFoundError(f"{name} {version} requires {part}, which the mirror has not got"))

    def _row(self, name: str, release: Resolved, changed: bool) -> None:
        document = release.release
        row: Json = {"name": name, "version": release.version, "kind": release.kind, "status": document.status}
        row |= {"files": len(document.files), "bytes": sum(spec.size for spec in document.files)}
        new = release.version not in self.mirror.versions(name)
        self.outcome.mirrored.append({**row, "yanked": document.yanked is not None, "changed": changed or new})

    def _drop(self, name: str, version: str, error: HubcliError) -> None:
        """Leave a release out: what a mirror lists, it has."""
        self.outcome.failed.append((f"{name}@{version}", error))
        self.outcome.mirrored = [
            row for row in self.outcome.mirrored if (row["name"], row["version"]) != (name, version)
        ]
        left = without(self.documents[name], version)
        if left is None:
            del self.documents[name]
        else:
            self.documents[name] = left

    def write(self) -> None:
        """Entries beside what is served, a check of all of it, and then the switch; what nothing names any more goes after it.

        Raises:
            EntryError: the new state has faults; the old one is served on.
            DiskError: it can't be written.
        """
        folder = self.mirror.folder
        try:
            with undone_on_error(folder, self.mirror.raw.keys() | self.documents.keys()):
                self._write_entries()
                self._check()
                built = build_site(folder, folder, name="mirror", in_one_step=True)
            self.outcome.snapshot = built.snapshot_sha256
            if self._cuts:
                self._sweep()
        except OSError as error:
            raise DiskError(f"can't write {error.filename or folder}", cause=error.strerror) from None

    def _check(self) -> None:
        """Stop at a fault of the new state. Files that were lost are none, and bad ones that nothing lists are removed."""
        folder, used, faults = self.mirror.folder, self._used(), []
        for file, fault in check_folder(folder, site=False).faults:
            stored = re.fullmatch(rf"{FILES}/([0-9a-f]{{64}})", file)
            if stored and fault.id == "E_HASH" and stored[1] not in used:
                self._remove(folder / file)
                self.outcome.removed.append(file)
            elif fault.id != "E_NOT_FOUND" or file.removesuffix(".json") not in self.lost:
                faults.append((file, fault))
        if faults:
            more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
            raise EntryError(
                f"{folder}: {'; '.join(f'{file}: {fault}' for file, fault in faults[:SHOWN])}{more}",
                hint=f"what was served before is served on; 'hubcli index check {folder}' says what is wrong with that",
                id=faults[0][1].id,
            )

    def _remove(self, file: Path) -> None:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise DiskError(f"can't remove {file}", cause=error.strerror) from None

    def _used(self) -> set[str]:
        """The hashes that an entry lists."""
        return {spec["sha256"] for d in self.documents.values() for r in d["releases"] for spec in r.get("files", ())}

    def removals(self) -> None:
        """Name what the new state has no more."""
        for name, old in self.mirror.documents.items():
            new = {release["version"] for release in self.documents.get(name, {}).get("releases", ())}
            gone = [release["version"] for release in old["releases"] if release["version"] not in new]
            self.outcome.removed += [f"{name}@{version}" for version in gone]

    def begin(self) -> None:
        """A mirror of nothing, so that none of the first entries is served before all of it is there.

        Raises:
            DiskError: it can't be written.
        """
        folder = self.mirror.folder
        if served(folder) is not None:
            return
        put(folder / MARK, dump({"v": 1, "indexes": {}}))
        empty = folder / ".empty"
        empty.mkdir(exist_ok=True)
        build_site(empty, folder, name="mirror", in_one_step=True)
        empty.rmdir()

    def _write_entries(self) -> None:
        mirror = self.mirror
        for name in sorted(mirror.raw.keys() - self.documents.keys()):
            (mirror.folder / f"{name}.json").unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                (mirror.folder / name).parent.rmdir()
        for name, document in self.documents.items():
            whole = document is self.entries[name].document
            put(mirror.folder / f"{name}.json", self.entries[name].raw if whole else dump(document))
        mirror.documents = self.documents
        mirror.endpoint = self._endpoint()
        names = self.documents.keys()
        write_meta(mirror, sorted({*near_collisions(names), *near_groups(names)}), self._owned())

    def _endpoint(self) -> str | None:
        """The hub of all entries, where they have one in common."""
        found = {r.endpoint for n in self.documents for r in self.entries[n].releases if r.release.hub is not None}
        if len(found) > 1:
            self.outcome.notes.append(
                "the entries are from different hubs: the mirror names none, its files serve them all"
            )
        return found.pop() if len(found) == 1 else None

    def _owned(self) -> Json | None:
        """The owners of all groups; None where those of one are not known."""
        groups: dict[str, list[str]] = {}
        for name in self.documents:
            group = name.partition("/")[0]
            owners = self.owners(self.mirror.indexes[name], group)
            if owners is None:
                return None
            groups[group] = owners
        return {"v": 1, "groups": groups} if groups else None

    def _sweep(self) -> None:
        used = self._used()
        for file in _files(self.mirror.folder / FILES):
            if file.name not in used:
                file.unlink()
                self.outcome.removed.append(f"{FILES}/{file.name}")


def _files(folder: Path) -> Iterable[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else ()
