"""The view of a snapshot: one SQLite file, every entry by name and a full-text table, built once, then only read."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hubcli.errors import EntryError

if TYPE_CHECKING:
    from hubcli.schema import Fault

FORMAT = 4
MAX_TERMS = 16
CACHE_KIB = 16 * 1024
_TERM = re.compile(r"\w{1,64}")
_HIT = "SELECT s.name, s.version, s.method, s.task, s.base, s.description"
RANK = "bm25(text, 10.0, 3.0, 1.0)"
_RANKED = (
    f"{_HIT}, -rank, s.installable FROM (SELECT text.rowid AS id, {RANK} AS rank FROM text {{join}}"
    " WHERE text MATCH :match{where} ORDER BY rank LIMIT :limit) JOIN shown s USING (id)"
)
# one edit leaves one end as it is, and what looks alike begins and ends alike: few of many names are compared in full
_NEAR = (
    "SELECT name FROM entry WHERE length(name) BETWEEN :low AND :high AND (substr(name, 1, 3) = :start OR"
    " substr(name, -3) = :end OR instr(:firsts, substr(name, 1, 1)) AND instr(:lasts, substr(name, -1)))"
)
_ANY = _RANKED.format(join="", where="")


class Hit(NamedTuple):
    """One found entry, with its newest release that is neither yanked nor quarantined; a higher score fits better.

    `installable` is False where that release is an archive elsewhere.
    """

    name: str
    version: str
    method: str | None
    task: str | None
    base: str | None
    description: str
    score: float
    installable: bool = True

    @classmethod
    def of(cls, row: Iterable[Any]) -> Hit:
        """From a row of the view."""
        *values, installable = row
        return cls._make((*values, bool(installable)))


class View:
    """A built view. Opened read-only, and only when asked something."""

    def __init__(self, connection: sqlite3.Connection, where: str, folder: Path | None = None):
        self._db = connection
        self.where = where
        self.folder = folder

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
            db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        except sqlite3.DatabaseError as error:
            raise EntryError(f"{file} is no view of an index: {error}", id="E_SNAPSHOT") from None
        return cls(db, where, file.parent)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _rows(self, sql: str, values: Any = ()) -> list[Any]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.DatabaseError as error:
            hint = f"remove {self.folder}: it is built again from the index"
            raise EntryError(
                f"the view of index '{self.where}' is damaged: {error}", hint=hint, id="E_SNAPSHOT"
            ) from None

    def has(self, name: str) -> bool:
        """Does the index have this name, be its entry good or bad?"""
        return bool(
            self._rows("SELECT 1 FROM entry WHERE name = ?1 UNION SELECT 1 FROM fault WHERE name = ?1", (name,))
        )

    def lookup(self, name: str) -> bytes | None:
        """The raw bytes of an entry, or None.

        Raises:
            EntryError: the index has this name with a faulty entry; all its faults are named.
        """
        for (raw,) in self._rows("SELECT raw FROM entry WHERE name = ?", (name,)):
            return bytes(raw)
        if faults := self.faults(name):
            from hubcli.index.entries import raise_faults

            raise_faults(f"{self.where}: {ascii(name)[1:-1]}.json", tuple(fault for _, fault in faults))
        return None

    def faults(self, name: str | None = None) -> list[tuple[str, Fault]]:
        """(name, fault) of the entries that were refused, by name."""
        from hubcli.schema import Fault

        columns = "name, field, expected, found, id"
        sql = f"SELECT {columns} FROM fault WHERE unknown = 0 AND (?1 IS NULL OR name = ?1) ORDER BY rowid"
        return [(row[0], Fault(*row[1:])) for row in self._rows(sql, (name,))]

    def unknown_keys(self) -> list[tuple[str, Fault]]:
        """(name, fault) of keys that this version does not know; their entries are used without them."""
        from hubcli.schema import Fault

        sql = "SELECT name, field, expected, found, id FROM fault WHERE unknown = 1 ORDER BY rowid"
        return [(row[0], Fault(row[1], row[2], row[3], row[4], True)) for row in self._rows(sql)]

    def names(self) -> Iterator[str]:
        """All names of good entries."""
        return (row[0] for row in self._rows("SELECT name FROM entry"))

    def __len__(self) -> int:
        return int(self._rows("SELECT count(*) FROM entry")[0][0])

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
        return get_close_matches(name, [n for _, n in near], limit, 0.75)

    def names_near(self, name: str) -> list[str]:
        """Other names of good entries that a person may take for this one; see `near_to`."""
        from hubcli.index.similar import LONGER, ends_alike, near_to

        firsts, lasts = ends_alike(name)
        values = {"low": len(name) - LONGER, "high": len(name) + LONGER, "firsts": firsts, "lasts": lasts,
                  "start": name[:3], "end": name[-3:]}  # fmt: skip
        return near_to(name, (row[0] for row in self._rows(_NEAR, values)))

    def search(self, query: str = "", *, limit: int = 20, **filters: str | None) -> list[Hit]:
        """Entries that hold all words of a query (else their beginnings, else any of them), the best first.

        Filters (`task`, `method`, `base`, `language`, `license`) compare exactly but for case; without words,
        all entries that pass them, by name. Entries with no release to offer are hidden.
        """
        given = {key: value.casefold() for key, value in filters.items() if value}
        where = "".join(f" AND {_FILTERS[key]}" for key in given) if given else ""
        words = [f'"{word}"' for word in _TERM.findall(query)[:MAX_TERMS]]
        if words:
            return self._match(words, where, {**given, "limit": limit})
        if query.strip():
            return []
        sql = f"{_HIT}, 0.0, s.installable FROM shown s WHERE 1{where} ORDER BY s.name LIMIT :limit"
        return [Hit.of(row) for row in self._rows(sql, {**given, "limit": limit})]

    def _match(self, words: list[str], where: str, values: dict[str, Any]) -> list[Hit]:
        """Rank first, then read what is shown of the few that are kept."""
        sql = _RANKED.format(join="JOIN shown s ON s.id = text.rowid", where=where) if where else _ANY
        values["match"] = " ".join(words)
        rows = self._rows(sql, values)
        if not rows:
            beginnings = [f"{word}*" for word in words]
            values["match"] = " ".join(beginnings)
            rows = self._rows(sql, values)
            if not rows:
                values["match"] = " OR ".join(beginnings)
                rows = self._rows(sql, values)
        return sorted(map(Hit.of, rows), key=by_score)


def by_score(hit: Hit) -> tuple[float, str]:
    """The order of hits: the best first, equal ones by name."""
    return -hit.score, hit.name


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
