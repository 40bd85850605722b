"""`adapters.lock`: what a project's adapters are pinned to; exact, sorted, the same bytes each time.

The lock holds each release whole (files with sizes and hashes, the hub's commit), so that it installs with no index at
hand. It holds no credentials.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hubcli import paths, schema, toml_file
from hubcli._version import __version__
from hubcli.compositions import requirements
from hubcli.config import BUNDLED, IndexConfig, hub_index, own_hub
from hubcli.errors import EntryError, LockError
from hubcli.manifest import Release, Resolved
from hubcli.project_file import LOCK, Project
from hubcli.versions import Range

LOCK_VERSION = "1.0"
LIMIT = 16 * 1024 * 1024
_JSON_TEXT = ("method_config", "training")


@dataclass(frozen=True, slots=True)
class LockedIndex:
    """An index that a lock takes releases from; `url` is relative to the lock where it is a folder beside it."""

    name: str
    url: str
    snapshot_sha256: str | None = None
    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class LockedAdapter:
    """One pinned release; `endpoint` is the hub of an `hf:` one, None the person's own; `required_by` says, for people,
    which compositions and fusions of the lock require it."""

    name: str
    version: str
    index: str
    requested: str
    release: Release
    kind: str = "adapter"
    description: str = ""
    entry_sha256: str | None = None
    endpoint: str | None = None
    required_by: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Lock:
    """A read `adapters.lock`; `warnings` names keys that this version does not know."""

    file: Path
    adapters: tuple[LockedAdapter, ...]
    indexes: tuple[LockedIndex, ...]
    warnings: tuple[str, ...] = field(default=())

    def adapter(self, name: str) -> LockedAdapter | None:
        """The pinned release of this name, or None."""
        return next((adapter for adapter in self.adapters if adapter.name == name), None)


def make_lock(project: Project, resolved: Iterable[Resolved], indexes: Sequence[IndexConfig]) -> str:
    """The text of `adapters.lock`: sorted by name, LF, the same for the same releases.

    Args:
        project: whose lock it is; folders are written relative to it where they lie under it.
        resolved: one release a name, those that compositions require included.
        indexes: the configured indexes, for the URLs of those that releases come from.
    """
    import tomli_w

    pinned = sorted(resolved, key=lambda item: (item.name, item.version))
    document = {
        "lock-version": LOCK_VERSION,
        "created-by": f"hubcli {__version__}",
        "index": [
            _index_table(index, pinned, project) for index in indexes if any(r.index == index.name for r in pinned)
        ],
        "adapter": [_adapter_table(item, _required_by(item.name, pinned)) for item in pinned],
    }
    head = "# Written by 'hubcli lock'; edit adapters.toml instead.\n"
    return head + tomli_w.dumps({key: value for key, value in document.items() if value})


def write_lock(file: Path, text: str) -> bool:
    """Put a lock in place by a rename; False where it is there already, byte for byte.

    Raises:
        DiskError: it can't be written.
    """
    return toml_file.write(file, text)


def _index_table(index: IndexConfig, pinned: Sequence[Resolved], project: Project) -> dict[str, Any]:
    first = next(item for item in pinned if item.index == index.name)
    url, folder = index.url, index.folder
    if folder is not None and folder.is_relative_to(project.file.parent.absolute()):
        url = folder.relative_to(project.file.parent.absolute()).as_posix()
    table = {"name": index.name, "url": url, "snapshot-sha256": first.snapshot_sha256, "endpoint": first.endpoint}
    return {key: value for key, value in table.items() if value}


def _required_by(name: str, pinned: Sequence[Resolved]) -> list[str]:
    return [other.name for other in pinned if name in requirements(other)]


def _adapter_table(item: Resolved, required_by: list[str]) -> dict[str, Any]:
    release = item.release.to_json()
    for key in _JSON_TEXT:
        release[key] = json.dumps(release[key], sort_keys=True) if release[key] else None
    base = release["base"]
    if base and base["quantization"] is not None:
        base["quantization"] = json.dumps(base["quantization"], sort_keys=True)
    table = {
        "name": item.name,
        "version": item.version,
        "index": item.index,
        "requested": item.requested,
        "kind": item.kind,
        "description": item.description,
        "entry-sha256": item.entry_sha256,
        "endpoint": item.endpoint if item.index == "hf" else None,
        "required-by": required_by,
        "release": release,
    }
    return {key: value for key, value in ((k, _pruned(v)) for k, v in table.items()) if value not in (None, "", [])}


def _pruned(value: Any) -> Any:
    """Without what TOML can't say (null) and what reading fills in (empty lists and tables)."""
    if isinstance(value, dict):
        pruned = {key: _pruned(item) for key, item in value.items()}
        return {key: item for key, item in pruned.items() if item is not None and item not in ([], {})}
    return [_pruned(item) for item in value] if isinstance(value, list) else value


def read_lock(path: Path) -> Lock:
    """Read `adapters.lock`, given itself or its folder.

    Raises:
        LockError: it is missing, can't be read, has faults, or comes from a newer hubcli.
        EntryError: E_PATH_UNSAFE, a file would leave its folder.
    """
    from hubcli.index.entries import safe_path

    file = path / LOCK if path.is_dir() else path
    if not file.is_file():
        raise LockError(f"{file} does not exist", hint="write it: hubcli lock")
    document = toml_file.read(file, LockError, "E_LOCK", limit=LIMIT)
    version = str(document.get("lock-version", ""))
    major = version.partition(".")[0]
    if major.isdecimal() and int(major) > int(LOCK_VERSION.partition(".")[0]):
        by = f" (it was written by {document.get('created-by', 'a newer hubcli')!s:.60})"
        raise LockError(f"{file}: lock-version {version}, this hubcli reads {LOCK_VERSION}{by}", hint="upgrade hubcli")
    faults = schema.check(document, "lock")
    if broken := [str(fault) for fault in faults if not fault.unknown]:
        raise LockError(f"{file}: " + "; ".join(broken[:8]), hint="write it again: hubcli lock")
    adapters = tuple(_locked(table, file) for table in document.get("adapter", []))
    for spec in (spec for adapter in adapters for spec in adapter.release.files):
        safe_path(spec.path)
    indexes = tuple(LockedIndex(**_snake(table, LockedIndex)) for table in document.get("index", []))
    return Lock(file, adapters, indexes, tuple(f"{file}: {fault}" for fault in faults if fault.unknown))


def _snake(table: Mapping[str, Any], cls: type[LockedIndex] | type[LockedAdapter]) -> dict[str, Any]:
    named = {key.replace("-", "_"): value for key, value in table.items()}
    return {key: value for key, value in named.items() if key in cls.__dataclass_fields__}


def _locked(table: dict[str, Any], file: Path) -> LockedAdapter:
    release = {"license": "", "published": "", **table["release"]}
    try:
        for key in _JSON_TEXT:
            release[key] = json.loads(release.get(key, "{}"))
        if "quantization" in release.get("base", {}):
            release["base"] = {**release["base"], "quantization": json.loads(release["base"]["quantization"])}
    except (ValueError, RecursionError):
        raise LockError(f"{file}: {table['name']}: expected JSON text", hint="write it again: hubcli lock") from None
    return LockedAdapter(**{**_snake(table, LockedAdapter), "release": Release.from_json(release)})


def check(project: Project, lock: Lock) -> list[str]:
    """Why a lock no longer says what its project wants, one line a reason; [] where it does."""
    reasons = []
    locked = {adapter.name: adapter for adapter in lock.adapters}
    required = _required(project, locked)
    for name, ref in project.wants.items():
        adapter = locked.get(name)
        if adapter is None:
            reasons.append(f"{name} is wanted and not locked")
        elif adapter.requested != str(ref):
            reasons.append(f"{name}: {project.file.name} wants {ref}, the lock was made for {adapter.requested}")
    reasons += [f"{name} is locked and no longer wanted" for name in locked if name not in {*project.wants, *required}]
    reasons += [f"{name} is required by a composition and not locked" for name in sorted(required - locked.keys())]
    for by in lock.adapters:
        for name, spec in requirements(by).items():
            version = locked[name].version if name in locked else None
            if version is not None and not Range(spec).allows(version):
                reasons.append(f"{by.name} requires {name} {spec}, {version} is locked")
    for index in moved_indexes(project, lock):
        url = project.indexes[index.name]
        reasons.append(f"index '{index.name}' is another: {url} in {project.file.name}, {index.url} in the lock")
    return reasons


def _required(project: Project, locked: Mapping[str, LockedAdapter]) -> set[str]:
    """All that what the project wants requires, directly or not."""
    required: set[str] = set()
    ahead = [*project.wants]
    while ahead:
        adapter = locked.get(ahead.pop())
        new = requirements(adapter).keys() - required if adapter else set()
        required |= new
        ahead += new
    return required


def moved_indexes(project: Project, lock: Lock) -> list[LockedIndex]:
    """The indexes that the project has at another place than the lock."""
    folder = project.file.parent.absolute()
    indexes = [index for index in lock.indexes if index.name in project.indexes]
    return [i for i in indexes if _place(project.indexes[i.name], folder) != _place(i.url, folder)]


def _place(url: str, beside: Path) -> str:
    """A URL, or a folder made absolute, in one way of writing."""
    folder = IndexConfig("", url).folder
    return url.rstrip("/") if folder is None else os.path.normpath(beside / folder.expanduser())


def lock_to_resolved(lock: Lock) -> list[Resolved]:
    """The pinned releases as `install` takes them: by hash and commit, no index asked.

    A release that was yanked when it was locked carries a warning.
    """
    from hubcli.resolver import refuse_quarantined, warnings_of

    indexes = {index.name: index for index in lock.indexes}
    found = []
    for adapter in lock.adapters:
        refuse_quarantined(adapter.name, adapter.release)
        index = indexes.get(adapter.index)
        found.append(
            Resolved(
                name=adapter.name,
                version=adapter.version,
                requested=adapter.requested,
                release=adapter.release,
                index=adapter.index,
                kind=adapter.kind,
                description=adapter.description,
                entry_sha256=adapter.entry_sha256,
                snapshot_sha256=index.snapshot_sha256 if index else None,
                endpoint=index.endpoint if index else adapter.endpoint,
                file_roots=_file_roots(index, lock.file) if index else (),
                warnings=warnings_of(adapter.name, adapter.release),
            )
        )
    return _with_parts(found, lock.file)


def _with_parts(found: list[Resolved], file: Path) -> list[Resolved]:
    """Each composition with its parts, and behind them.

    Raises:
        LockError: it is in a cycle, or requires what the lock does not pin.
    """
    from hubcli.compositions import Need, gather
    from hubcli.resolver import with_parts

    pins = {item.name: item for item in found}

    def pick(name: str, needs: tuple[Need, ...]) -> Resolved:
        if name not in pins:
            raise LockError(f"{file}: {name} is required by {needs[0].by} and not locked", hint="hubcli lock")
        return pins[name]

    try:
        ordered = gather({name: Need("", file.name) for name in pins}, pick)
    except EntryError as error:
        raise LockError(f"{file}: {error.message}", hint="write it again: hubcli lock") from None
    return [with_parts(name, ordered) for name in ordered]


def _file_roots(index: LockedIndex, file: Path) -> tuple[str, ...]:
    if index.url == BUNDLED:
        return (str(paths.bundled("registry-index") / "_files"),)
    if index.url.startswith(("http://", "https://")):
        return (index.url.rstrip("/") + "/_files",)
    if found := hub_index(index.url):
        repo, revision = found
        return (f"{own_hub()}/datasets/{repo}/resolve/{quote(revision, safe='')}/_files",)
    folder = IndexConfig(index.name, index.url).folder
    return (str(file.parent.absolute() / folder / "_files"),) if folder else ()
