"""A static index: `index.json` and `entries.jsonl.gz`, built from a folder, and read over HTTP or from a disk.

`index.json` promises the snapshot; a reader asks for it alone as long as its ETag holds, and takes the entries
when the snapshot is another. They may lie under a name of their own for each state, which `index.json` says, so that
replacing it is the one step from state to state. A line of that file is `["group/name", "the entry's text as its
file holds it"]`, by name.
"""

from __future__ import annotations

import gzip
import hashlib
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hubcli import schema, strict_json
from hubcli.errors import EntryError, NotFoundError
from hubcli.index.entries import raise_faults
from hubcli.index.sources import ENTRY_LIMIT, FILES, META_LIMIT, STATIC, Raw, Snapshot, check_endpoint

if TYPE_CHECKING:
    from hubcli.http import Http

FORMAT = 1
INDEX, ENTRIES = STATIC, "entries.jsonl.gz"
MAX_UNPACKED = 512 * 1024 * 1024
MAX_RATIO = 20
SMALL = 16 * 1024 * 1024
LINE_LIMIT = 6 * ENTRY_LIMIT + 1024
CHUNK = 256 * 1024


class HttpSource:
    """A static index on a web server. Its validator is the ETag of `index.json`."""

    local = False

    def __init__(self, url: str, http: Http):
        self.where = self._url = url
        self._http = http

    def changed(self, validator: str) -> tuple[str, Snapshot] | None:
        """The state now, or None after a 304. Entries are fetched when they are read.

        Raises:
            NetworkError, NotFoundError: as `Http.get`.
            EntryError: `index.json` is faulty.
        """
        headers = {"If-None-Match": validator} if validator else {}
        with self._http.get(self._url + INDEX, headers, max_bytes=META_LIMIT) as response:
            if response.status == 304:
                return None
            raw, etag = response.read(), response.etag
        if raw.lstrip()[:1] == b"<":
            from hubcli.http import html_instead

            raise html_instead(self._url + INDEX)
        document = read_index(raw, self._url + INDEX)
        root = self._url + FILES
        snapshot = Snapshot(document["snapshot"], self._entries(document), document.get("endpoint"), (root,), document)
        return etag or "", snapshot

    def _entries(self, document: dict[str, Any]) -> Iterator[Raw]:
        promised, url = document["entries"], self._url + entries_path(document)
        with tempfile.TemporaryFile() as file:
            with self._http.get(url, max_bytes=promised["size"]) as response:
                for piece in response.chunks():
                    file.write(piece)
            file.seek(0)
            yield from unpack(file, document, url)


class StaticFolderSource:
    """A static index on a disk. Its validator is the hash of `index.json`."""

    local = True

    def __init__(self, folder: Path):
        self.folder = folder
        self.where = str(folder)

    def changed(self, validator: str) -> tuple[str, Snapshot] | None:
        """The state now, or None where `index.json` is the same.

        Raises:
            EntryError: `index.json` is faulty.
        """
        file = self.folder / INDEX
        raw = strict_json.read_bytes(file, limit=META_LIMIT, where=str(file))
        now = f"{self.folder} {hashlib.sha256(raw).hexdigest()}"
        if now == validator:
            return None
        document = read_index(raw, str(file))
        roots = (str(self.folder / FILES),) if (self.folder / FILES).is_dir() else ()
        return now, Snapshot(document["snapshot"], self._entries(document), document.get("endpoint"), roots, document)

    def _entries(self, document: dict[str, Any]) -> Iterator[Raw]:
        file = self.folder / entries_path(document)
        try:
            stream = file.open("rb")
        except OSError as error:
            raise NotFoundError(f"{file} can't be read", cause=error.strerror) from None
        with stream:
            yield from unpack(stream, document, str(file))


def entries_path(document: dict[str, Any]) -> str:
    """The name of the file with the entries that an `index.json` promises."""
    return str(document["entries"].get("path", ENTRIES))


def read_index(raw: bytes, where: str) -> dict[str, Any]:
    """An `index.json`, checked.

    Raises:
        EntryError: faults; a format from a newer hubcli; sizes beyond the limits (E_SNAPSHOT).
    """
    document = strict_json.loads(raw, where=where, limit=META_LIMIT)
    if isinstance(document, dict) and isinstance(document.get("format"), int) and document["format"] > FORMAT:
        found = f"format {document['format']}, expected {FORMAT}"
        raise EntryError(f"{where}: this index needs a newer hubcli ({found})", hint="upgrade hubcli", id="E_SNAPSHOT")
    raise_faults(where, tuple(fault for fault in schema.check(document, "index") if not fault.unknown))
    check_endpoint(document.get("endpoint"), where)
    packed, unpacked = document["entries"]["size"], document["entries"]["unpacked"]
    if unpacked > MAX_UNPACKED or unpacked > max(SMALL, MAX_RATIO * packed):
        limit = f"at most {MAX_UNPACKED} bytes, and {MAX_RATIO} for one packed"
        raise EntryError(
            f"{where}: entries.unpacked: expected {limit}, found {unpacked} from {packed}", id="E_SNAPSHOT"
        )
    checked: dict[str, Any] = document
    return checked


def unpack(file: IO[bytes], document: dict[str, Any], where: str) -> Iterator[Raw]:
    """The entries of an `entries.jsonl.gz`, after its size and hash were compared with `index.json`'s.

    Raises:
        EntryError: E_SNAPSHOT, other bytes than promised, in packed or unpacked form.
    """
    promised = document["entries"]
    size, sha256 = measure(file)
    if (size, sha256) != (promised["size"], promised["sha256"]):
        expected = f"expected {promised['size']} bytes with sha256 {promised['sha256']}, found {size} with {sha256}"
        raise EntryError(f"{where}: {expected}", hint=_AGAIN, id="E_SNAPSHOT")
    count, previous = 0, ""
    for line in _lines(file, promised["unpacked"], where):
        name, raw = _pair(line, where)
        if name <= previous:
            raise EntryError(f"{where}: expected names in order, found {name!a} after {previous!a}", id="E_SNAPSHOT")
        count, previous = count + 1, name
        yield name, raw
    if count != document["count"]:
        raise EntryError(f"{where}: expected {document['count']} entries, found {count}", id="E_SNAPSHOT")


_AGAIN = "the index may be changing: try again; if it stays, it was tampered with"


def measure(file: IO[bytes]) -> tuple[int, str]:
    """(bytes, sha256) of a file from its start; it is left there."""
    digest, size = hashlib.sha256(), 0
    while piece := file.read(CHUNK):
        digest.update(piece)
        size += len(piece)
    file.seek(0)
    return size, digest.hexdigest()


def _lines(file: IO[bytes], unpacked: int, where: str) -> Iterator[bytes]:
    """Lines, never more than promised: what unpacks to more is not read on."""
    total = 0
    with gzip.GzipFile(fileobj=file, mode="rb") as stream:
        while True:
            try:
                line = stream.readline(min(LINE_LIMIT, unpacked - total) + 1)
            except (OSError, EOFError, zlib.error) as error:
                raise EntryError(f"{where}: not a gzip file: {error}", id="E_SNAPSHOT") from None
            total += len(line)
            if total > unpacked or len(line) > LINE_LIMIT:
                expected = f"expected {unpacked} bytes in lines of at most {LINE_LIMIT}"
                raise EntryError(f"{where}: {expected}, found more", id="E_SNAPSHOT")
            if not line:
                return
            yield line


def _pair(line: bytes, where: str) -> Raw:
    match strict_json.loads(line, where=where, limit=LINE_LIMIT):
        case [str(name), str(text)]:
            return name, text.encode()
    raise EntryError(f"{where}: expected lines of [name, entry], found {line[:60]!a}", id="E_SNAPSHOT")
