"""Where bytes come from, by sha256. Any source may serve, none is trusted: the installer counts and hashes what arrives."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

from hubcli.config import origin_of, own_hub
from hubcli.manifest import FileSpec, Resolved
from hubcli.paths import offline_switch

CHUNK = 1 << 20


class Stream:
    """The bytes of one file from position `offset` on. `chunks` is read once; closing it ends the transfer.

    `resumed` says that they came in more than one transfer, so that wrong bytes are worth another try.
    """

    def __init__(self, chunks: Iterator[bytes], offset: int = 0):
        self.chunks = chunks
        self.offset = offset
        self.resumed = False


class Source(Protocol):
    """A place that may have a file. `label` names it in messages."""

    label: str

    def open(self, file: FileSpec, resolved: Resolved, offset: int = 0) -> Stream | None:
        """The file's bytes from `offset` on, or from the start; None where it has not got the file.

        Raises:
            HubcliError: it should have the file and can't give it.
        """


def read_local(path: Path, offset: int = 0) -> Stream | None:
    """A regular file of this machine as a stream; None where there is none."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError:
        return None
    file = os.fdopen(handle, "rb")
    if not path.is_file():
        file.close()
        return None
    file.seek(offset)
    return Stream(_chunks(file), offset)


def _chunks(file: object) -> Iterator[bytes]:
    with file:  # type: ignore[attr-defined]
        yield from iter(lambda: file.read(CHUNK), b"")  # type: ignore[attr-defined]


class FolderSource:
    """A folder that holds files by hash: `<folder>/<sha256>`."""

    def __init__(self, folder: Path, label: str | None = None):
        self.folder = folder
        self.label = label or str(folder)

    def open(self, file: FileSpec, resolved: Resolved, offset: int = 0) -> Stream | None:
        """As `Source.open`."""
        return read_local(self.folder / file.sha256, offset) if file.sha256 else None


class MemorySource:
    """Small files that this process has read already, while it resolved a ref: they are not asked for twice."""

    label = "memory"
    _seen: ClassVar[dict[str, bytes]] = {}

    @classmethod
    def remember(cls, data: bytes) -> str:
        """Keep a small file, among the last few; returns its sha256."""
        found = hashlib.sha256(data).hexdigest()
        cls._seen[found] = data
        while len(cls._seen) > 64:
            del cls._seen[next(iter(cls._seen))]
        return found

    def open(self, file: FileSpec, resolved: Resolved, offset: int = 0) -> Stream | None:
        """As `Source.open`."""
        data = self._seen.get(file.sha256)
        return None if data is None else Stream(iter([data[offset:]]), offset)


class HfCacheSource:
    """The Hugging Face cache of this machine: blobs of big files are named by sha256, others lie in the commit's snapshot."""

    def __init__(self, folder: Path | None = None):
        self.folder = folder or hf_cache()
        self.label = f"the Hugging Face cache {self.folder}"

    def open(self, file: FileSpec, resolved: Resolved, offset: int = 0) -> Stream | None:
        """As `Source.open`."""
        location = resolved.release.hub
        if location is not None:
            repo = self.folder / ("models--" + location.repo.replace("/", "--"))
            snapshot = repo / "snapshots" / location.commit / file.path
            stream = self._sized(repo / "blobs" / file.sha256, file, offset) if file.sha256 else None
            return stream or self._sized(snapshot, file, offset)
        if not file.sha256:
            return None
        try:
            repos = sorted(self.folder.glob("models--*"))
        except OSError:
            return None
        found = (self._sized(repo / "blobs" / file.sha256, file, offset) for repo in repos)
        return next((stream for stream in found if stream), None)

    def _sized(self, path: Path, file: FileSpec, offset: int) -> Stream | None:
        try:
            return read_local(path, offset) if path.stat().st_size == file.size else None
        except OSError:
            return None


def hf_cache() -> Path:
    """The hub cache as huggingface_hub places it, without importing it."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if given := os.environ.get(name):
            return Path(os.path.expandvars(given)).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(os.path.expandvars(home)).expanduser() / "hub"
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expandvars(cache)).expanduser() / "huggingface" / "hub"


def by_root(
    root: str, tokens: Mapping[str, str] | None = None, offline: str | None = None, token: str | None = None
) -> Source:
    """The source for a folder or a URL that holds files by hash; `token` is for the person's own hub, as in `Sources`."""
    if root.startswith(f"{own_hub()}/datasets/"):
        from hubcli.hub.mirror import MirrorSource
        from hubcli.hub.transport import HubHttp

        bound = (tokens or {}).get(origin_of(own_hub()), token)
        return MirrorSource(root, http=HubHttp(tokens=tokens, token=bound, offline=offline))
    if root.lower().startswith(("http://", "https://")):
        from hubcli.hub.mirror import MirrorSource

        return MirrorSource(root, tokens, offline)
    return FolderSource(Path(root.removeprefix("file://")).expanduser())


class Sources(NamedTuple):
    """The sources of an install, in order: files beside the index, the Hugging Face cache, mirrors, the hub at the pinned commit.

    Args:
        mirrors: folders or URLs that hold files by hash.
        tokens: a token by origin (`https://host:port`), for endpoints and mirrors other than the person's own hub.
        token: the token for the person's own hub (`HF_ENDPOINT`); None takes the one huggingface_hub has; "" none.
        offline: the name of the switch that turns the network off, True for one without a name, False for none; None
            asks the environment.
        cache: the Hugging Face cache; None the usual place.
    """

    mirrors: Sequence[str] = ()
    tokens: Mapping[str, str] | None = None
    token: str | None = None
    offline: str | bool | None = None
    cache: Path | None = None

    def of(self, resolved: Resolved) -> Iterator[Source]:
        """The sources to try for one release, made one after another as they are needed."""
        offline = switch(self.offline)
        for root in resolved.file_roots:
            yield by_root(root, self.tokens, offline, self.token)
        yield MemorySource()
        yield HfCacheSource(self.cache)
        for root in self.mirrors:
            yield by_root(root, self.tokens, offline)
        if resolved.release.hub is not None:
            from hubcli.hub.hf import HubSource

            yield HubSource(resolved.endpoint, tokens=self.tokens, token=self.token, offline=offline)


def switch(offline: str | bool | None) -> str | None:
    """The name of the switch that turns the network off, or None: what `offline` of `Sources` means."""
    if offline is None:
        return offline_switch()
    return offline if isinstance(offline, str) else ("offline=True" if offline else None)
