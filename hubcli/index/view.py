"""The view of a snapshot: one SQLite file, every entry by name and a full-text table, built once, then only read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubcli.errors import DiskError, EntryError
from hubcli.index.entries import check_entry, raise_faults
from hubcli.index.sources import Digest, Raw, Snapshot
from hubcli.schema import Fault
from hubcli.versions import in_order

FORMAT = 1
MAX_ENTRIES = 1_000_000
MAX_TERMS = 16
HIDDEN_STATUS = "quarantined"
_TERM = re.compile(r"\w+")
_TABLES = """
CREATE TABLE entry(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL, raw BLOB NOT NULL);
CREATE TABLE shown(id INTEGER PRIMARY KEY, version TEXT, method TEXT, task TEXT, base TEXT, license TEXT,
language TEXT,
                   description TEXT);
CREATE TABLE fault(name TEXT NOT NULL, field TEXT, expected TEXT, found TEXT, id TEXT, unknown INTEGER);
CREATE INDEX fault_name ON fault(name);
CREATE VIRTUAL TABLE text
  USING fts5(name, description, facts, content='', tokenize='porter unicode61 remove_diacritics 2');
"""
_HIT = "SELECT e.name, s.version, s.method, s.task, s.base, s.description, %s FROM shown s JOIN entry e USING (id)"
RANK = "bm25(text, 10.0, 3.0, 1.0)"


@dataclass(frozen=True, slots=True)
class Hit:
    """One found entry, with its newest release that is neither yanked nor quarantined; a higher score fits better."""

    name: str
    version: str
    method: str | None
    task: str | None
    base: str | None
    description: str
    score: float


class View:
    """A built view. Opened read-only, and only when asked something."""

    def __init__(self, connection: sqlite3.Connection, where: str):
        self._db = connection
        self.where = where

    @classmethod
    def open(cls, file: Path, where: str) -> View:
        """Open a view's file; it is never written again, so no lock is taken.

        Raises:
            EntryError: E_SNAPSHOT, the file is no view of this format.
        """
        path = str(file).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        try:
            db = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True, check_same_thread=False)
            if db.execute("PRAGMA user_version").fetchone() != (FORMAT,):
                raise sqlite3.DatabaseError("another format")
        except sqlite3.DatabaseError as error:
            raise EntryError(f"{file} is no view of an index: {error}", id="E_SNAPSHOT") from None
        return cls(db, where)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def has(self, name: str) -> bool:
        """Does the index have this name, be its entry good or bad?"""
        row = self._db.execute("SELECT 1 FROM entry WHERE name = ?1 UNION SELECT 1 FROM fault WHERE name = ?1", (name,))
        return row.fetchone() is not None

    def lookup(self, name: str) -> bytes | None:
        """The raw bytes of an entry, or None.

        Raises:
            EntryError: the index has this name with a faulty entry; all its faults are named.
        """
        row = self._db.execute("SELECT raw FROM entry WHERE name = ?", (name,)).fetchone()
        if row is not None:
            return bytes(row[0])
        raise_faults(f"{self.where}: {ascii(name)[1:-1]}.json", tuple(fault for _, fault in self.faults(name)))
        return None

    def faults(self, name: str | None = None) -> list[tuple[str, Fault]]:
        """(name, fault) of the entries that were refused, by name."""
        columns = "name, field, expected, found, id"
        sql = f"SELECT {columns} FROM fault WHERE unknown = 0 AND (?1 IS NULL OR name = ?1) ORDER BY rowid"
        return [(row[0], Fault(*row[1:])) for row in self._db.execute(sql, (name,))]

    def unknown_keys(self) -> list[tuple[str, Fault]]:
        """(name, fault) of keys that this version does not know; their entries are used without them."""
        sql = "SELECT name, field, expected, found, id FROM fault WHERE unknown = 1 ORDER BY rowid"
        return [(row[0], Fault(row[1], row[2], row[3], row[4], True)) for row in self._db.execute(sql)]

    def names(self) -> Iterator[str]:
        """All names of good entries."""
        return (row[0] for row in self._db.execute("SELECT name FROM entry"))

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM entry").fetchone()[0])

    def names_like(self, name: str, limit: int = 3) -> list[str]:
        """Names close to this one, the closest first; for "did you mean"."""
        from difflib import get_close_matches

        pairs = {name[i : i + 2] for i in range(len(name) - 1)}
        counted = (
            (sum(n[i : i + 2] in pairs for i in range(len(n) - 1)), n)
            for n in self.names()
            if abs(len(n) - len(name)) < 9
        )
        near = sorted(((count, n) for count, n in counted if count * 3 >= len(pairs)), reverse=True)[:200]
        return get_close_matches(name, [n for _, n in near], limit, 0.6)

    def search(self, query: str = "", *, limit: int = 20, **filters: str | None) -> list[Hit]:
        """Entries that hold all words of a query (else their beginnings, else any of them), the best first.

        Filters (`task`, `method`, `base`, `language`, `license`) compare exactly but for case; without words,
        all entries that pass them, by name. Entries with no release to offer are hidden.
        """
        given = {key: value.casefold() for key, value in filters.items() if value}
        where = "".join(f" AND {_FILTERS[key]}" for key in given)
        words = [f'"{word}"' for word in _TERM.findall(query)[:MAX_TERMS]]
        if not words:
            if query.strip():
                return []
            sql = f"{_HIT % 0.0} WHERE 1{where} ORDER BY e.name LIMIT :limit"
            return [Hit(*row) for row in self._db.execute(sql, {**given, "limit": limit})]
        for match in (" ".join(words), " ".join(f"{w}*" for w in words), " OR ".join(f"{w}*" for w in words)):
            if hits := self._match(match, where, {**given, "limit": limit}):
                return hits
        return []

    def _match(self, match: str, where: str, values: dict[str, Any]) -> list[Hit]:
        """Rank first, then read what is shown of the few that are kept."""
        join = "JOIN shown s ON s.id = text.rowid " if where else ""
        inner = f"SELECT text.rowid AS id, {RANK} AS rank FROM text {join}WHERE text MATCH :match{where}"
        sql = f"{_HIT % 'round(-rank, 9)'} JOIN ({inner} ORDER BY rank LIMIT :limit) USING (id) ORDER BY rank, e.name"
        return [Hit(*row) for row in self._db.execute(sql, {**values, "match": match})]


_FILTERS = {key: f"lower(s.{key}) = :{key}" for key in ("task", "method", "base", "license")}
_FILTERS["language"] = "instr(s.language, ' ' || :language || ' ') > 0"


def file_name(sha256: str) -> str:
    """The name of a view's file, by the identity of its snapshot."""
    return f"{sha256[:32]}.v{FORMAT}.sqlite"


def temporary_file(folder: Path) -> Path | None:
    """A new empty file in `folder`, made if need be; None where nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"view-{os.getpid()}-{os.urandom(6).hex()}.tmp"
        file.touch(exist_ok=False)
    except OSError:
        return None
    return file


def build(snapshot: Snapshot, temporary: Path, where: str) -> tuple[Path, str]:
    """Build the view of a snapshot in a temporary file and rename it; the file, and the snapshot's sha256.

    Builders that run at once write the same file, each from its own temporary one.

    Raises:
        EntryError: E_SNAPSHOT, the entries are not the promised ones.
        DiskError: it can't be written.
    """
    try:
        with contextlib.closing(sqlite3.connect(temporary)) as db:
            sha256 = fill(db, snapshot, where)
        _sync(temporary)
        file = temporary.with_name(file_name(sha256))
        temporary.replace(file)
    except sqlite3.OperationalError as error:
        raise DiskError(f"can't write the view of an index to {temporary.parent}", cause=str(error)) from None
    finally:
        temporary.unlink(missing_ok=True)
    return file, sha256


def build_in_memory(snapshot: Snapshot, where: str) -> tuple[View, str]:
    """A view that lives in memory, for a home folder that can't be written."""
    db = sqlite3.connect(":memory:", check_same_thread=False)
    sha256 = fill(db, snapshot, where)
    return View(db, where), sha256


def fill(db: sqlite3.Connection, snapshot: Snapshot, where: str) -> str:
    """Write a snapshot's entries into an empty database; the snapshot's sha256.

    Raises:
        EntryError: E_SNAPSHOT, more entries than `MAX_ENTRIES`, or others than promised.
    """
    db.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + _TABLES)
    digest = Digest()
    with db:
        for number, (name, raw) in enumerate(snapshot.entries):
            if number >= MAX_ENTRIES:
                raise EntryError(f"{where}: expected at most {MAX_ENTRIES} entries", id="E_SNAPSHOT")
            sha256 = hashlib.sha256(raw).hexdigest()
            digest.add(name, sha256)
            _add(db, (name, raw), sha256, where)
        db.execute("INSERT INTO text(text) VALUES ('optimize')")
        db.execute(f"PRAGMA user_version = {FORMAT}")
    found = digest.hexdigest()
    if snapshot.sha256 not in (None, found):
        expected = f"expected the snapshot {snapshot.sha256}, found {found}"
        raise EntryError(
            f"{where}: {expected}", hint="the index is being changed, or was tampered with", id="E_SNAPSHOT"
        )
    return found


def _add(db: sqlite3.Connection, entry: Raw, sha256: str, where: str) -> None:
    name, raw = entry
    printable = name.encode("utf-8", "replace").decode()
    checked = check_entry(raw, name=name, where=f"{where}/{ascii(name)[1:-1]}.json")
    rows = [(printable, f.field, f.expected, f.found, f.id, f.unknown) for f in checked.faults + checked.unknown]
    db.executemany("INSERT INTO fault VALUES (?, ?, ?, ?, ?, ?)", rows)
    if checked.faults or checked.document is None:
        return
    key = db.execute("INSERT INTO entry(name, sha256, raw) VALUES (?, ?, ?)", (name, sha256, raw)).lastrowid
    release = newest_offered(checked.document)
    if release is None:
        return
    base = (release.get("base") or {}).get("id")
    method, task, license, languages = (release.get(k) for k in ("method", "task", "license", "language"))
    description, spoken = checked.document["description"], " ".join(languages or [])
    values = (key, release["version"], method, task, base, license, f" {spoken.lower()} ", description)
    db.execute("INSERT INTO shown VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
    data = {metric["dataset"] for metric in release.get("metrics", [])}
    facts = " ".join(filter(None, [checked.document["kind"], method, task, base, spoken, *sorted(data)]))
    db.execute("INSERT INTO text(rowid, name, description, facts) VALUES (?, ?, ?, ?)", (key, name, description, facts))


def newest_offered(document: dict[str, Any]) -> dict[str, Any] | None:
    """The release a search shows: the newest that is neither yanked nor quarantined; prereleases only where all are."""
    offered = {
        r["version"]: r for r in document["releases"] if not r.get("yanked") and r.get("status") != HIDDEN_STATUS
    }
    stable = [version for version in offered if "-" not in version.partition("+")[0]]
    ordered = in_order(stable or offered)
    return offered[ordered[-1]] if ordered else None


def _sync(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
