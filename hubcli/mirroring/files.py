"""Files of a mirror: each is there with the right bytes, or fetched as an install fetches it, and hashed on its way in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from hubcli.errors import ContentError, DiskError, HubcliError
from hubcli.hub.fetch import Fetcher
from hubcli.hub.sources import CHUNK, Sources
from hubcli.index.entries import safe_path
from hubcli.manifest import FileSpec, Resolved
from hubcli.mirroring.state import Mirror
from hubcli.progress import Progress
from hubcli.store.content import check_listed
from hubcli.store.staging import Staging
from hubcli.store.store import Store

Warn = Callable[[str], None]


class Files:
    """Brings the files of releases into a mirror. `fetched` counts the bytes that came, `there` are hashes known to be right."""

    def __init__(self, mirror: Mirror, store: Store, sources: Sources, progress: Progress, warn: Warn):
        self._mirror, self._store, self._sources = mirror, store, sources
        self._progress, self._warn = progress, warn
        self.there: set[str] = set()
        self.fetched = 0

    def missing(self, release: Resolved) -> list[FileSpec]:
        """The files of a release that are not there, or with other bytes."""
        return [spec for spec in release.release.files if not self._right(spec)]

    def _right(self, spec: FileSpec) -> bool:
        if spec.sha256 not in self.there and self._mirror.holds(spec.sha256, spec.size):
            self.there.add(spec.sha256)
        return spec.sha256 in self.there

    def bring(self, release: Resolved) -> bool:
        """See that all files of a release are there; whether any had to be brought.

        Raises:
            EntryError, UnsafeFormatError: a path or a kind of file that no adapter may have.
            ContentError, NetworkError, NotFoundError: nobody has the right bytes.
            DiskError: they can't be written.
        """
        for spec in release.release.files:
            safe_path(spec.path)
            check_listed(spec)
        wanted = {spec.sha256: spec for spec in self.missing(release)}
        if not wanted:
            return False
        with self._store.staging(sum(spec.size for spec in wanted.values())) as staging:
            fetcher = Fetcher(release, self._sources, staging, self._progress, self._warn)
            for spec in wanted.values():
                self._bring(spec, staging, fetcher)
        return True

    def _bring(self, spec: FileSpec, staging: Staging, fetcher: Fetcher) -> None:
        self._progress.start(spec.path, spec.size)
        try:
            if not self._store.link_blob(staging, spec, self._progress.advance):
                fetcher.get(spec)
        finally:
            self._progress.done()
        copy_checked(staging.path(spec.path), self._mirror.file(spec.sha256), spec)
        self.there.add(spec.sha256)
        self.fetched += spec.size


def copy_checked(source: Path, target: Path, spec: FileSpec) -> None:
    """Copy a file, hashing what is written; it has its name when all is right and on the disk.

    Raises:
        ContentError: other bytes came. DiskError: they can't be written.
    """
    temporary = target.parent.parent / f".{target.name}.tmp"  # not among the files: a kill leaves nothing there
    digest, size = hashlib.sha256(), 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as read, temporary.open("wb") as write:
            for piece in iter(lambda: read.read(CHUNK), b""):
                digest.update(piece)
                size += write.write(piece)
            write.flush()
            os.fsync(write.fileno())
        if (size, digest.hexdigest()) != (spec.size, spec.sha256):
            raise ContentError(f"{spec.path}: expected sha256 {spec.sha256}, found {digest.hexdigest()}")
        temporary.replace(target)
    except OSError as error:
        raise DiskError(f"can't write {target}", cause=error.strerror) from None
    finally:
        temporary.unlink(missing_ok=True)


def named(error: HubcliError) -> str:
    """An error in one line."""
    return f"{error.message} ({error.cause})" if error.cause else error.message
