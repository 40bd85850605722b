"""Putting one adapter together out of sight, until it appears by one rename."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hubcli.errors import ContentError, DiskError
from hubcli.manifest import FileSpec, Record
from hubcli.store import faults
from hubcli.store.files import CHUNK, digest, fsync_file, fsync_folder, link_or_copy, open_plain, remove_tree
from hubcli.store.layout import TAG, Layout, owner_is_gone
from hubcli.store.record import write_record

PART = ".part-"
_TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR}


class Staging:
    """The folder of one adapter in the making; `folder` holds its files under their final relative paths."""

    def __init__(self, layout: Layout, purpose: str = "new"):
        self.layout = layout
        self.folder = layout.fresh(purpose)
        self.files: dict[str, FileSpec] = {}
        make_folder(layout.tmp, tag=True)
        self.folder.mkdir()

    def path(self, relative: str) -> Path:
        """Where a file of this adapter lies while it is being put together; its folder is made."""
        path = self.folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def link(self, spec: FileSpec, source: Path) -> bool:
        """Take a file whose bytes were checked already as a hard link to `source`; False where that can't be done."""
        try:
            link_or_copy(source, self.path(spec.path))
        except OSError:
            return False
        self.files[spec.path] = spec
        return True

    def receive(
        self, spec: FileSpec, chunks: Iterable[bytes], *, start: int = 0, on_bytes: Callable[[int], None] | None = None
    ) -> FileSpec:
        """Write a file from a stream, counting and hashing; it gets its name when all is right.

        Args:
            spec: what is expected; a `sha256` of "" takes the hash as found.
            chunks: the bytes from `start` on; never more than one byte beyond `spec.size` is looked at, none written.
            start: how many bytes `take_part` found.
            on_bytes: called with the number of bytes of each piece.

        Returns:
            The spec with the hash as found.

        Raises:
            ContentError: E_SIZE or E_HASH; nothing of the file stays.
        """
        part = self._part(spec)
        try:
            found = self._write(part, spec, chunks, start, on_bytes)
        except ContentError:
            part.unlink(missing_ok=True)
            raise
        part.chmod(0o444)
        part.rename(self.path(spec.path))
        self.files[spec.path] = FileSpec(spec.path, spec.size, found, spec.role)
        return self.files[spec.path]

    def _write(
        self, part: Path, spec: FileSpec, chunks: Iterable[bytes], start: int, on_bytes: Callable[[int], None] | None
    ) -> str:
        sha: Any = hashlib.sha256()
        total = start
        if start:
            with open_plain(part) as earlier:
                for data in iter(lambda: earlier.read(CHUNK), b""):
                    sha.update(data)
        with part.open("ab" if start else "wb") as file:
            faults.reach("after-open")
            for data in chunks:
                before, total = total, total + len(data)
                if total > spec.size:
                    raise ContentError(f"{spec.path}: expected {spec.size:,} bytes, found more", id="E_SIZE")
                sha.update(data)
                file.write(data)
                if before >> 20 != total >> 20:
                    file.flush()
                    faults.reach("each-mib")
                if on_bytes:
                    on_bytes(len(data))
            if total != spec.size:
                raise ContentError(f"{spec.path}: expected {spec.size:,} bytes, found {total:,}", id="E_SIZE")
            faults.reach("before-fsync")
            fsync_file(file)
            faults.reach("after-fsync")
        found: str = sha.hexdigest()
        if spec.sha256 and found != spec.sha256:
            raise ContentError(
                f"{spec.path}: expected sha256 {spec.sha256}, found {found}",
                hint="the source serves other bytes than were promised; someone may have tampered with them",
            )
        return found

    def take_out(self, spec: FileSpec) -> Path:
        """A file that was received and is not to be kept: it is no part of the adapter any more. Who takes it deletes it."""
        del self.files[spec.path]
        return self.path(spec.path)

    def take_in(self, spec: FileSpec) -> FileSpec:
        """Count in a file that was made in the staging itself; returns the spec with its size and sha256."""
        path = self.path(spec.path)
        with path.open("rb") as file:
            fsync_file(file)
        path.chmod(0o444)
        size, found = digest(path)
        made = self.files[spec.path] = dataclasses.replace(spec, size=size, sha256=found)
        return made

    def seal(self, record: Record) -> None:
        """Share the files as blobs and write the record; all of it is on the disk afterwards."""
        for spec in self.files.values():
            self._share(spec)
        write_record(self.folder, record)
        for folder in sorted({self.path(f).parent for f in self.files} | {self.folder}, key=str, reverse=True):
            fsync_folder(folder)

    def _share(self, spec: FileSpec) -> None:
        """Put a file's content among the blobs, unless it is there."""
        blob = self.layout.blob(spec.sha256)
        with contextlib.suppress(FileNotFoundError):
            if blob.samefile(self.folder / spec.path):
                return
        make_folder(self.layout.blobs, tag=True)
        make_folder(blob.parent)
        fresh = self.layout.fresh("blob")
        faults.reach("before-blob")
        link_or_copy(self.folder / spec.path, fresh)
        fresh.replace(blob)
        fresh.unlink(missing_ok=True)
        faults.reach("after-blob")
        fsync_folder(blob.parent)

    def appear(self, target: Path) -> None:
        """Let the sealed folder appear under its name, by one rename.

        Raises:
            FileExistsError: something lies there.
        """
        faults.reach("before-rename")
        for _ in range(20):
            try:
                make_folder(target.parent)
                self.folder.rename(target)
            except FileNotFoundError:
                if not self.folder.is_dir():
                    raise
                continue  # another process removed the empty parents between the two steps
            except OSError as error:
                if error.errno in _TAKEN:
                    raise FileExistsError(errno.EEXIST, "already there", str(target)) from error
                raise
            faults.reach("after-rename")
            fsync_folder(target.parent)
            return
        raise DiskError(f"{target}: its parent folder keeps vanishing; is another process clearing the store?")

    def discard(self) -> None:
        """Drop what was put together; nothing where the folder has appeared."""
        if self.folder.is_dir():
            with contextlib.suppress(OSError):
                remove_tree(self.folder)

    def _part(self, spec: FileSpec) -> Path:
        """Where a file lies until all its bytes are there."""
        return self.folder / f"{PART}{spec.sha256 or 'new'}"

    def drop_part(self, spec: FileSpec) -> None:
        """Forget the bytes of an unfinished file."""
        self._part(spec).unlink(missing_ok=True)

    def keep_part(self, spec: FileSpec) -> None:
        """Keep the bytes of an unfinished file, if there are any, for the next try or the next source."""
        part = self._part(spec)
        try:
            if not spec.sha256 or not part.stat().st_size:
                return
            make_folder(self.layout.partial, tag=True)
            part.replace(self.layout.partial / spec.sha256)
        except OSError:
            return  # it is an offer, not a promise

    def take_part(self, spec: FileSpec) -> int:
        """Claim the bytes that an earlier try kept or left when it died, by a rename that one process alone can win.

        Returns:
            How many bytes of the file lie ready for `receive`.
        """
        if not spec.sha256:
            return 0
        part = self._part(spec)
        for earlier in (self.layout.partial / spec.sha256, *self._left_by_the_dead(part.name)):
            try:
                size = earlier.lstat().st_size
                if earlier.is_symlink() or not 0 < size < spec.size:
                    continue
                earlier.rename(part)
            except OSError:
                continue
            return size
        return 0

    def _left_by_the_dead(self, name: str) -> list[Path]:
        return [part for part in self.layout.tmp.glob(f"*/{name}") if owner_is_gone(part.parent)]


def make_folder(folder: Path, *, tag: bool = False) -> None:
    """Make a folder of the store, durably; `tag` marks it as one that backups may leave out."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        fsync_folder(folder.parent)
    if tag and not (folder / "CACHEDIR.TAG").exists():
        (folder / "CACHEDIR.TAG").write_text(TAG, encoding="utf-8")


def digest_matches(path: Path, spec: FileSpec) -> bool:
    """Whether a plain file holds the promised bytes; False where it is not there."""
    try:
        return digest(path) == (spec.size, spec.sha256)
    except OSError:
        return False
