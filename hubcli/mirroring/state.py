"""What a mirror's folder holds: entries cut to the releases that are there, from which index each came, and files by hash.

`index.json` is what readers are served; entries and files beside it are written before it, and what it no longer names is
removed after it, so that a mirror is in the old state or in the new one at any moment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hubcli import strict_json
from hubcli.errors import EntryError, UsageError
from hubcli.index.entries import check_entry, dump, raise_faults
from hubcli.index.sources import FILES, META, META_LIMIT, entry_files, read_entries, read_meta
from hubcli.index.static import INDEX
from hubcli.store.files import digest
from hubcli.store.locking import hold

MARK, LOCK, OWNERS = "_mirror.json", ".mirror.lock", "_owners.json"
V = 1
Json = dict[str, Any]


@dataclass(slots=True)
class Mirror:
    """`documents`: name → entry as it is served, its releases all there or quarantined; `raw`: name → the bytes of its file,
    also of what is in no document; `indexes`: name → index that it came from; `endpoint`: the hub that its index names.
    """

    folder: Path
    documents: dict[str, Json] = field(default_factory=dict)
    raw: dict[str, bytes] = field(default_factory=dict)
    indexes: dict[str, str] = field(default_factory=dict)
    endpoint: str | None = None

    def file(self, sha256: str) -> Path:
        """Where a file of this hash lies."""
        return self.folder / FILES / sha256

    def holds(self, sha256: str, size: int) -> bool:
        """Is it there, with the right bytes? It is read whole."""
        with contextlib.suppress(OSError):
            file = self.file(sha256)
            return not file.is_symlink() and file.stat().st_size == size and digest(file) == (size, sha256)
        return False

    def has(self, name: str, version: str) -> bool:
        """Is this release listed, with files?"""
        releases = self.documents.get(name, {}).get("releases", ())
        return any(r["version"] == version and r.get("status") != "quarantined" for r in releases)

    def versions(self, name: str) -> set[str]:
        """The versions of an entry that are there."""
        return {release["version"] for release in self.documents.get(name, {}).get("releases", ())}


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs of `mirror` out of the folder.

    Raises:
        BusyError: another one works in it.
    """
    with hold(folder / LOCK, f"the mirror {folder}", no_wait=True):
        for left in folder.glob(".*.tmp"):  # what a killed run was copying
            left.unlink()
        yield


def read_mirror(folder: Path) -> Mirror:
    """The mirror in a folder; an empty one where nothing is yet.

    Raises:
        UsageError: something else is there.
        EntryError: what a mirror wrote there is damaged.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"{folder} is no folder")
    if not folder.is_dir() or not {path.name for path in folder.iterdir()} - {LOCK, f"{MARK}.tmp"}:
        return Mirror(folder)
    if not (folder / MARK).is_file():
        raise UsageError(
            f"{folder} is not empty, and no mirror (there is no {MARK})",
            hint="choose a folder of its own for the mirror",
        )
    mark = strict_json.read(folder / MARK, limit=64 * META_LIMIT)
    if not isinstance(mark, dict) or mark.get("v") != V or not isinstance(mark.get("indexes"), dict):
        raise EntryError(f"{folder / MARK}: expected v {V} with indexes", hint="it is from a newer hubcli, or damaged")
    mirror = Mirror(folder, indexes=dict(mark["indexes"]), endpoint=read_meta(folder).get("endpoint"))
    for name, raw in read_entries(entry_files(folder)):
        mirror.raw[name] = raw
        if (
            name not in mirror.indexes
        ):  # a run was killed before it said so: it was never served, and goes or is written anew
            continue
        checked = check_entry(raw, name=name, where=f"{folder}/{name}.json")
        raise_faults(f"{folder}/{ascii(name)[1:-1]}.json", checked.faults)
        assert checked.document is not None
        mirror.documents[name] = checked.document
    return mirror


def served(folder: Path) -> bytes | None:
    """The `index.json` that readers get now."""
    with contextlib.suppress(OSError):
        return (folder / INDEX).read_bytes()
    return None


def put(file: Path, data: bytes) -> None:
    """Write a file whole or not at all, if it is not there with these bytes."""
    with contextlib.suppress(OSError):
        if file.read_bytes() == data:
            return
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(file.name + ".tmp")
    temporary.write_bytes(data)
    temporary.replace(file)


@contextlib.contextmanager
def undone_on_error(folder: Path, names: Iterable[str]) -> Iterator[None]:
    """Put back what a mirror says of itself, and these entries, where a new state does not come to be served."""
    files = [*(folder / f"{name}.json" for name in names), *(folder / name for name in (MARK, META, OWNERS))]
    before = {file: file.read_bytes() if file.is_file() else None for file in files}
    now = served(folder)
    try:
        yield
    except BaseException:  # whoever stops the run by hand, too
        if served(folder) != now:  # the switch was made
            raise
        for file, data in before.items():
            if data is not None:
                put(file, data)
                continue
            file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                file.parent.rmdir()
        raise


def write_meta(mirror: Mirror, similar: list[tuple[str, str]], owners: Json | None) -> None:
    """`_mirror.json`, `_index.json` and, where all owners are known, `_owners.json`."""
    indexes = {name: mirror.indexes[name] for name in sorted(mirror.documents)}
    put(mirror.folder / MARK, dump({"v": V, "indexes": indexes}))
    put(mirror.folder / META, dump({"endpoint": mirror.endpoint, "similar": [list(pair) for pair in similar]}))
    if owners is not None:
        put(mirror.folder / OWNERS, dump(owners))
    else:
        (mirror.folder / OWNERS).unlink(missing_ok=True)
