"""Where an index comes from: the bundled one, a folder, or static files over HTTP. All give the same snapshot.

A folder holds `<group>/<name>.json`, `_files/<sha256>` and, optionally, `_index.json` with its hub's endpoint.
A static index is what `index build` makes of it (`index.json`, `entries.jsonl.gz`, `_files/`), served by any
web server or read from a disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import field
from pathlib import Path
from typing import Any, Protocol

from hubcli.errors import EntryError, NotFoundError
from hubcli.frozen import frozen

ENTRY_LIMIT = 256 * 1024
META_LIMIT = 64 * 1024
FILES = "_files"
META = "_index.json"
STATIC = "index.json"  # what makes a folder a static index; it may hold the entries that it was built of, too
Raw = tuple[str, bytes]


@frozen
class Snapshot:
    """One state of an index.

     `entries` yields (name as the path says it, raw bytes of the entry), by name, and can be read once.
    `sha256` is `digest` of them: the promised one where a server promised, and the reader compares. `endpoint`
    is the hub that the index names for its files, `file_roots` folders or URLs with files by sha256, `meta`
    what else the index says of itself.
    """

    sha256: str | None
    entries: Iterable[Raw]
    endpoint: str | None = None
    file_roots: tuple[str, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """A place an index is read from.

    `where` names it in messages. `changed(validator)` looks for a state other than the one that `validator`
    (this source's own text from the last time, "" the first time) stands for, and returns None where there is
    none, else the new validator and the snapshot. `local` sources need no network and are looked at each time.
    """

    where: str
    local: bool

    def changed(self, validator: str) -> tuple[str, Snapshot] | None:
        """The new state, or None."""


class Digest:
    """sha256 over names and hashes of entries in the order of names: the identity of a snapshot."""

    def __init__(self) -> None:
        self._all = hashlib.sha256(b"hubcli snapshot 1\n")

    def add(self, name: str, entry_sha256: str) -> None:
        """Count one entry in."""
        self._all.update(f"{entry_sha256} {name}\n".encode("utf-8", "surrogateescape"))

    def hexdigest(self) -> str:
        """The identity, 64 hex digits."""
        return self._all.hexdigest()


class FolderSource:
    """An index in a folder, as the people who keep it edit it. Its validator is made of names, sizes and times of files."""

    local = True

    def __init__(self, folder: Path, name: str = "NAME"):
        self.folder = folder
        self._name = name
        self.where = str(folder)

    def changed(self, validator: str) -> tuple[str, Snapshot] | None:
        """The folder's state where a file is other than at `validator`.

        Raises:
            NotFoundError: there is no such folder.
            EntryError: `_index.json` can't be read.
        """
        if not self.folder.is_dir():
            hint = f"mount it, or take it off the list: hubcli index remove {self._name}"
            raise NotFoundError(f"the index folder {self.folder} does not exist", hint=hint)
        files = list(entry_files(self.folder))
        now = self._fingerprint(files)
        return None if now == validator else (now, self._snapshot(files))

    def _fingerprint(self, files: list[tuple[str, os.DirEntry[str]]]) -> str:
        digest = hashlib.sha256(os.fsencode(self.folder))
        for name, entry in files:
            digest.update(f"{name}\0{_seen(entry)}\n".encode("utf-8", "surrogateescape"))
        meta = self.folder / META
        if meta.exists():
            digest.update(f"{meta.stat().st_size} {meta.stat().st_mtime_ns}".encode())
        return "files:" + digest.hexdigest()

    def _snapshot(self, files: list[tuple[str, os.DirEntry[str]]]) -> Snapshot:
        meta = read_meta(self.folder)
        roots = (str(self.folder / FILES),) if (self.folder / FILES).is_dir() else ()
        return Snapshot(None, read_entries(files), meta.get("endpoint"), roots, meta)


def _seen(entry: os.DirEntry[str]) -> str:
    """Size and time of a file; nothing of a link that leads nowhere."""
    with contextlib.suppress(OSError):
        stat = entry.stat()
        return f"{stat.st_size}\0{stat.st_mtime_ns}"
    return "\0"


def read_entries(files: Iterable[tuple[str, os.DirEntry[str]]]) -> Iterator[Raw]:
    """The bytes of each entry file; of one over the limit, one byte too many; none, which is a fault, of what can't be read as
    a file: a folder, a link that leads nowhere.
    """
    for name, entry in files:
        raw = b""
        with contextlib.suppress(OSError):
            if entry.is_file():
                with Path(entry.path).open("rb") as stream:
                    raw = stream.read(ENTRY_LIMIT + 1)
        yield name, raw


def read_meta(folder: Path) -> dict[str, Any]:
    """What an index folder says of itself in `_index.json`; {} without one.

    Raises:
        EntryError: it is no JSON object, its `endpoint` no http(s) URL, or its `similar` no list of pairs of names.
    """
    file = folder / META
    if not file.exists():
        return {}
    if not file.is_file():
        raise EntryError(f"{file}: expected a file, found a folder or a device")
    from hubcli import strict_json

    return parse_meta(strict_json.read_bytes(file, limit=META_LIMIT, where=str(file)), str(file))


def parse_meta(raw: bytes, where: str) -> dict[str, Any]:
    """An `_index.json`, checked.

    Raises:
        EntryError: as `read_meta`.
    """
    from hubcli import schema, strict_json

    meta = strict_json.loads(raw, where=where, limit=META_LIMIT)
    if not isinstance(meta, dict):
        raise EntryError(f"{where}: expected an object, found {type(meta).__name__}")
    check_endpoint(meta.get("endpoint"), where)
    similar = meta.get("similar", [])
    pairs = similar if isinstance(similar, list) else [similar]
    bad = [pair for pair in pairs if not isinstance(pair, list) or [type(name) for name in pair] != [str, str]]
    if bad or pairs is not similar:
        found = schema.shown(bad[0] if bad else similar)
        raise EntryError(f'{where}: similar: expected pairs of names, as [["a/b", "a/c"]], found {found}')
    return meta


def check_endpoint(endpoint: object, where: str) -> None:
    """Refuse a hub endpoint that is neither None nor an http(s) URL without credentials.

    Raises:
        EntryError: with what was found.
    """
    if endpoint is None:
        return
    if not isinstance(endpoint, str) or not endpoint.startswith(("https://", "http://")) or "@" in endpoint:
        raise EntryError(f"{where}: endpoint: expected an http(s) URL without credentials, found {endpoint!a}")


def entry_files(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """(name as the path says it, file) of all entries of an index folder, by name. What starts with _ or . is no entry."""
    found = []
    for group in os.scandir(folder):
        if group.name.startswith(("_", ".")):
            continue
        if group.is_dir():
            found += [(f"{group.name}/{e.name[:-5]}", e) for e in os.scandir(group.path) if e.name.endswith(".json")]
        elif group.name.endswith(".json") and group.name != STATIC:
            found.append((group.name[:-5], group))
    return iter(sorted(found, key=lambda pair: os.fsencode(pair[0])))


def entry_name(path: str) -> str | None:
    """The entry whose file this path is, by the rule of `entry_files`; None for any other file."""
    group, slash, rest = path.partition("/")
    if group.startswith(("_", ".")) or "/" in rest or not path.endswith(".json") or path == STATIC:
        return None
    return path.removesuffix(".json") if rest or not slash else None
