"""An index that lives in a dataset repository of a hub, as people keep it (`<group>/<name>.json`, `_files/`) or built.

The newest commit of the branch is asked for; where it is the one seen before, that was all. Else the commit's files are
listed, and of the entries those are fetched whose hash this machine has not seen: the others come from its own cache, or,
many at once, from a built site that lies beside them. The listing decides what an entry is, never the site: what was
yanked on the hub is yanked before anyone builds again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from hubcli.errors import ContentError, EntryError, NotFoundError
from hubcli.hashes import git_blob
from hubcli.hub.hf import file_url
from hubcli.hub.transport import HubHttp
from hubcli.index.hub_tree import TreeFile, commit_of, files_of
from hubcli.index.sources import ENTRY_LIMIT, FILES, META, META_LIMIT, Raw, Snapshot, entry_name, parse_meta
from hubcli.index.static import CHUNK, ENTRIES, INDEX, MAX_UNPACKED, read_index, unpack

TOGETHER = 8
BATCH = 64
BY_SITE = 16
CACHE = "entries.jsonl"
_TOO_LONG = b" " * (ENTRY_LIMIT + 1)


class HubIndexSource:
    """A dataset repository `ORG/NAME` of the person's own hub, at a branch, a tag or a commit. Its validator is the commit.

    Args:
        token: for this repository; None takes the one huggingface_hub has, "" none.
        tokens: origin → token, for what the hub redirects to.
        offline: the switch that turns the network off, None when it is on.
        cache: the folder that keeps the entries fetched last.
    """

    local = False

    def __init__(
        self,
        repo: str,
        revision: str,
        *,
        token: str | None = None,
        tokens: Mapping[str, str] | None = None,
        offline: str | None = None,
        cache: Path,
    ):
        self._http = HubHttp(tokens=tokens, token=token, offline=offline)
        self._repo, self._revision = repo, revision
        self._cache = cache / CACHE
        self.where = f"{self._http.endpoint}/datasets/{repo}"

    def changed(self, validator: str) -> tuple[str, Snapshot] | None:
        """The state now, or None where the branch is where it was. Entries are fetched when they are read.

        Raises:
            NetworkError, NotFoundError: as `Http.get`.
            EntryError, ContentError: the hub's answers, `_index.json` or `index.json` are faulty.
        """
        self._http.commit = None
        commit = commit_of(self._http, self._repo, self._revision)
        if commit == validator:
            return None
        self._http.commit = commit
        files = {file.path: file for file in files_of(self._http, self._repo, commit)}
        root = self._url(commit, FILES)
        roots = (root,) if any(path.startswith(f"{FILES}/") for path in files) else ()
        entries = {name: file for path, file in files.items() if (name := entry_name(path))}
        if not entries and {INDEX, ENTRIES} <= files.keys():
            document = read_index(self._settings(commit, files[INDEX]), f"{self.where}/{INDEX}")
            site = self._site(commit, files[ENTRIES], document)
            return commit, Snapshot(document["snapshot"], site, document.get("endpoint"), roots, document)
        meta = self._meta(commit, files)
        return commit, Snapshot(None, self._entries(commit, entries, files), meta.get("endpoint"), roots, meta)

    def _meta(self, commit: str, files: Mapping[str, TreeFile]) -> dict[str, Any]:
        if META not in files:
            return {}
        return parse_meta(self._settings(commit, files[META]), f"{self.where}/{META}")

    def _settings(self, commit: str, file: TreeFile) -> bytes:
        """`_index.json` or `index.json`, which are read whole: one of more bytes than such a file has is not asked for."""
        if file.size > META_LIMIT:
            where = f"{self.where}/{file.path}"
            raise EntryError(f"{where}: expected at most {META_LIMIT:,} bytes, found {file.size:,}", id="E_JSON_SIZE")
        return self._fetch(commit, file)

    def _entries(self, commit: str, entries: Mapping[str, TreeFile], files: Mapping[str, TreeFile]) -> Iterator[Raw]:
        """The entries in the order of their names: what the cache has, then what the site has, then one by one."""
        fits = {name: file for name, file in entries.items() if file.size <= ENTRY_LIMIT}
        total = sum(file.size for file in fits.values())
        if total > MAX_UNPACKED:
            raise EntryError(f"{self.where}: expected at most {MAX_UNPACKED:,} bytes of entries, found {total:,}")
        wanted = {file.hash for file in fits.values()}
        known = {hash: data for hash, data in _read_cache(self._cache) if hash in wanted and is_hash_of(hash, data)}
        if len(wanted - known.keys()) > BY_SITE and {INDEX, ENTRIES} <= files.keys():
            known |= self._from_site(commit, files, fits, wanted - known.keys())
        missing = [file for file in fits.values() if file.hash not in known]
        try:
            for file, data in self._each(missing, lambda file: self._fetch(commit, file)):
                known[file.hash] = data
        finally:
            if missing or len(known) != len(wanted):
                _write_cache(self._cache, known)
        for name in sorted(entries, key=os.fsencode):
            yield name, known[fits[name].hash] if name in fits else _TOO_LONG

    def _each(self, files: Sequence[TreeFile], fetch: Callable[[TreeFile], bytes]) -> Iterator[tuple[TreeFile, bytes]]:
        """Files with their bytes, some at a time; after a failure no more are begun."""
        rest = iter(files)
        with ThreadPoolExecutor(TOGETHER) as pool:
            while batch := list(islice(rest, BATCH)):
                yield from zip(batch, pool.map(fetch, batch), strict=True)

    def _from_site(
        self, commit: str, files: Mapping[str, TreeFile], fits: Mapping[str, TreeFile], wanted: set[str]
    ) -> dict[str, bytes]:
        """Those of the wanted entries that the site has as they are now; a site that is faulty or gone has none."""
        found: dict[str, bytes] = {}
        with contextlib.suppress(EntryError, ContentError, NotFoundError):
            document = read_index(self._settings(commit, files[INDEX]), f"{self.where}/{INDEX}")
            for name, data in self._site(commit, files[ENTRIES], document):
                file = fits.get(name)
                if file is not None and file.hash in wanted and is_hash_of(file.hash, data):
                    found[file.hash] = data
        return found

    def _site(self, commit: str, file: TreeFile, document: dict[str, Any]) -> Iterator[Raw]:
        with tempfile.TemporaryFile() as packed:
            with self._http.get(self._url(commit, file.path), max_bytes=document["entries"]["size"]) as response:
                for piece in response.chunks(CHUNK):
                    packed.write(piece)
            packed.seek(0)
            yield from unpack(packed, document, f"{self.where}/{ENTRIES}")

    def _fetch(self, commit: str, file: TreeFile) -> bytes:
        """A small file, compared with what the listing says of it."""
        with self._http.get(self._url(commit, file.path), max_bytes=max(1, file.size)) as response:
            data = response.read()
        if not is_hash_of(file.hash, data):
            where = f"{self.where}/{ascii(file.path)[1:-1]}"
            raise ContentError(f"{where}: expected {file.size} bytes with hash {file.hash}, found {len(data)} others")
        return data

    def _url(self, commit: str, path: str) -> str:
        return file_url(self._http.endpoint, f"datasets/{self._repo}", commit, path)


def is_hash_of(text: str, data: bytes) -> bool:
    """Is this what a hub's listing says of these bytes: their sha256, or the hash that git gives them?"""
    if len(text) == 64:
        return hashlib.sha256(data).hexdigest() == text
    return git_blob(data) == text


def _read_cache(file: Path) -> Iterator[tuple[str, bytes]]:
    """(hash, bytes) of what was fetched before; whoever reads compares them. What can't be read was never kept."""
    with contextlib.suppress(OSError, ValueError, TypeError), file.open(encoding="utf-8") as lines:
        for line in lines:
            hash, text = json.loads(line)
            yield str(hash), str(text).encode()


def _write_cache(file: Path, known: Mapping[str, bytes]) -> None:
    """Keep what was fetched, whole or not at all; where the disk has no room the next read fetches again."""
    temporary = file.with_name(f".{file.name}-{secrets.token_hex(6)}.tmp")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("w", encoding="utf-8") as stream:
                stream.writelines(json.dumps(pair) + "\n" for pair in _texts(known.items()))
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)


def _texts(known: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, str]]:
    """What can be kept as text; bytes that are none are no entry, and are fetched to be told so."""
    for hash, data in known:
        with contextlib.suppress(UnicodeDecodeError):
            yield hash, data.decode()
