"""Building a static index from an index folder: any web server can serve it, and the same folder gives the same bytes."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubcli.errors import ContentError, DiskError, EntryError, NotFoundError
from hubcli.index.entries import check_entry, raise_faults
from hubcli.index.sources import FILES, Digest, Raw, check_endpoint, entry_files, read_entries, read_meta
from hubcli.index.static import ENTRIES, FORMAT, INDEX, entries_path, measure, read_index


@dataclass(frozen=True, slots=True)
class Built:
    """What was built: entries, the snapshot's sha256, the number of files beside them."""

    entries: int
    snapshot_sha256: str
    files: int


def build_site(
    folder: Path,
    out: Path,
    *,
    name: str | None = None,
    endpoint: str | None = None,
    dry_run: bool = False,
    in_one_step: bool = False,
) -> Built:
    """Build a static index of an index folder; the same folder gives the same bytes.

    Args:
        folder: `<group>/<name>.json` and `_files/`.
        out: where to write; `index.json` comes last, so that a server may serve from it all the time.
        name: what the index calls itself; default: what `_index.json` says, else "index".
        endpoint: the hub of its files; default: what `_index.json` says.
        dry_run: check everything, write nothing.
        in_one_step: give the entries of each state a file of their own, so that whoever reads between two writes, or after a
            kill, has the state before or the new one.

    Raises:
        NotFoundError: no such folder.
        EntryError: an entry is faulty; the first such file with all its faults.
        ContentError: a file in `_files/` is not what its name says.
        DiskError: `out` can't be written.
    """
    if not folder.is_dir():
        raise NotFoundError(f"the index folder {folder} does not exist")
    meta = read_meta(folder)
    endpoint = endpoint or meta.get("endpoint")
    check_endpoint(endpoint, "endpoint")
    data, promised = _pack(_checked(read_entries(entry_files(folder)), folder))
    if in_one_step:
        promised["entries"]["path"] = f"entries-{promised['entries']['sha256'][:16]}.jsonl.gz"
    document = {"format": FORMAT, "name": name or meta.get("name") or "index", **promised, "endpoint": endpoint}
    index = json.dumps(document, indent=2).encode() + b"\n"
    read_index(index, str(out / INDEX))
    try:
        files = _copy_files(folder / FILES, out / FILES, dry_run)
        if not dry_run:
            out.mkdir(parents=True, exist_ok=True)
            _switch(out, data, index, promised["entries"].get("path", ENTRIES))
    except OSError as error:
        raise DiskError(f"can't write the static index to {out}", cause=error.strerror) from None
    return Built(promised["count"], promised["snapshot"], files)


def _pack(entries: Iterable[Raw]) -> tuple[bytes, dict[str, Any]]:
    """`entries.jsonl.gz` and what `index.json` promises of it. No time and no file name stand in the gzip header."""
    digest, packed, unpacked, count = Digest(), io.BytesIO(), 0, 0
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as stream:
        for name, raw in entries:
            digest.add(name, hashlib.sha256(raw).hexdigest())
            line = json.dumps([name, raw.decode()]).encode() + b"\n"
            stream.write(line)
            unpacked, count = unpacked + len(line), count + 1
    data = packed.getvalue()
    sizes = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "unpacked": unpacked}
    return data, {"snapshot": digest.hexdigest(), "count": count, "entries": sizes}


def _checked(entries: Iterable[Raw], folder: Path) -> Iterator[Raw]:
    for name, raw in entries:
        where = f"{folder}/{ascii(name)[1:-1]}.json"
        checked = check_entry(raw, name=name, where=where)
        raise_faults(where, checked.faults + checked.unknown)
        yield name, raw


def _copy_files(source: Path, target: Path, dry_run: bool) -> int:
    """Copy what is not there yet, each file compared with the sha256 that is its name; how many there are."""
    files = sorted(source.iterdir()) if source.is_dir() else []
    for file in files:
        copy = target / file.name
        with file.open("rb") as stream:
            _, sha256 = measure(stream)
        if sha256 != file.name:
            raise ContentError(f"{file}: expected the sha256 that its name is, found {sha256}")
        if dry_run or (copy.exists() and copy.stat().st_size == file.stat().st_size):
            continue
        target.mkdir(parents=True, exist_ok=True)
        temporary = copy.with_suffix(".tmp")
        shutil.copyfile(file, temporary)
        temporary.replace(copy)
    return len(files)


def _switch(out: Path, data: bytes, index: bytes, path: str) -> None:
    """From one state to the next by one rename; the entries of the state before stay for those who are reading them."""
    before = ""
    with contextlib.suppress(OSError, EntryError):
        before = entries_path(read_index((out / INDEX).read_bytes(), str(out / INDEX)))
    for name in dict.fromkeys((path, ENTRIES)):
        _replace(out / name, data)
    if not _replace(out / INDEX, index):
        return
    for old in out.glob("entries-*.jsonl.gz"):
        if old.name not in (path, before):
            old.unlink()


def _replace(file: Path, data: bytes) -> bool:
    """Write a file by one rename; False where it has these bytes already."""
    with contextlib.suppress(OSError):
        if file.read_bytes() == data:
            return False
    temporary = file.with_name(file.name + ".tmp")
    temporary.write_bytes(data)
    temporary.replace(file)
    return True
