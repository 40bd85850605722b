"""Building a view: every entry of a snapshot is checked, and good ones go into one SQLite file that appears by a rename."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from pathlib import Path
from typing import Any

from hubcli.compositions import shown_method
from hubcli.errors import DiskError, EntryError
from hubcli.index.entries import check_entry
from hubcli.index.sources import Digest, Raw, Snapshot
from hubcli.index.view import FORMAT, View, file_name
from hubcli.versions import in_order

MAX_ENTRIES = 1_000_000
HIDDEN_STATUS = "quarantined"
_TABLES = """
CREATE TABLE entry(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL, raw BLOB NOT NULL);
CREATE TABLE shown(id INTEGER PRIMARY KEY, name TEXT, version TEXT, method TEXT, task TEXT, base TEXT, license TEXT,
language TEXT,
                   description TEXT, installable INTEGER NOT NULL);
CREATE TABLE fault(name TEXT NOT NULL, field TEXT, expected TEXT, found TEXT, id TEXT, unknown INTEGER);
CREATE INDEX fault_name ON fault(name);
CREATE VIRTUAL TABLE text
  USING fts5(name, description, facts, content='', tokenize='porter unicode61 remove_diacritics 2');
"""


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
    method = shown_method(checked.document["kind"], method)
    installable = bool(release.get("files")) or not release.get("origin")
    values = (key, name, release["version"], method, task, base, license, f" {spoken.lower()} ", description)
    db.execute("INSERT INTO shown VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*values, installable))
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
