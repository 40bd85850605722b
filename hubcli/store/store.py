"""The store of one home folder: what is added, removed, verified, pruned."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from hubcli.errors import HubcliError, NotFoundError
from hubcli.manifest import FileSpec, Installed, Json, Record
from hubcli.measured import merged
from hubcli.store import faults, locking
from hubcli.store import prune as pruning
from hubcli.store.contents import Broken, Contents
from hubcli.store.files import check_plain_folders, disk_errors, fsync_folder, tampered
from hubcli.store.record import NAME, write_record
from hubcli.store.staging import Staging, digest_matches
from hubcli.store.verify import MISSING, UNVERIFIABLE, Problem, Verification, verify_folder

__all__ = ["Broken", "Store"]

Warn = Callable[[str], None]


class Store(Contents):
    """Installed adapters under `home`. Reading makes nothing; folders are made when something is added.

    Raises:
        HubcliError: the folder holds a store that only a newer hubcli can read.
    """

    # Changing it

    @contextlib.contextmanager
    def lock(self, name: str, *, no_wait: bool = False, warn: Warn | None = None) -> Iterator[None]:
        """Keep other processes from changing the adapter `name` (or "store") at the same time; saves double work.

        Raises:
            BusyError: another process holds it, at once with `no_wait`, else after HUBCLI_LOCK_TIMEOUT seconds.
            DiskError: the store can't be written.
        """
        path = self.layout.lock(name)
        resource = f"the store {self.path}" if name == "store" else f"adapter {name} in the store"
        with contextlib.ExitStack() as stack:
            with disk_errors(path):
                check_plain_folders(self.layout.home, path.parent)
                stack.enter_context(locking.hold(path, resource, no_wait=no_wait, warn=warn))
            yield

    @contextlib.contextmanager
    def staging(self, needed: int | None = None) -> Iterator[Staging]:
        """A place to put one adapter together; what is not committed is gone afterwards.

        Raises:
            DiskError: with `needed`, the bytes that were to be written in all, and the bytes free.
            StoreTamperedError: a link lies where a folder of the store should be.
        """
        for folder in (self.layout.tmp, self.layout.blobs, self.layout.adapters, self.layout.partial):
            check_plain_folders(self.layout.home, folder)
        with disk_errors(self.path, needed):
            staging = Staging(self.layout)
            try:
                yield staging
            finally:
                staging.discard()

    def add(self, staging: Staging, record: Record) -> Installed:
        """Let a complete staging appear as an installed adapter; replaces a damaged one of the same name and version.

        Returns:
            The adapter; `changed` is False where another process had installed the very same files meanwhile.
        """
        target = self.layout.adapter(record.name, record.version)
        check_plain_folders(self.path, target.parent)
        staging.seal(record)
        for _ in range(5):
            try:
                staging.appear(target)
                return Installed(record, str(target), changed=True)
            except FileExistsError:
                same = self._same(target, record)
                if same:
                    return same
                self._set_aside(target)
        raise tampered(target, "something that keeps coming back")

    def _same(self, target: Path, record: Record) -> Installed | None:
        """What lies at `target`, if it is the same release and intact."""
        try:
            present = self._read(target)
            ok = verify_folder(self.path, present).ok
        except HubcliError:
            return None
        same_files = sorted(present.record.release.files, key=str) == sorted(record.release.files, key=str)
        return present if ok and same_files and present.record.pins == record.pins else None

    def link_blob(self, staging: Staging, spec: FileSpec, on_bytes: Callable[[int], None] | None = None) -> bool:
        """Take a file out of the store's own blobs, hashed again on the way; False where it is not there or is damaged.

        Raises:
            StoreTamperedError: the blob is a link.
        """
        if not spec.sha256:
            return False
        blob = self.layout.blob(spec.sha256)
        check_plain_folders(self.path, blob.parent)
        if not digest_matches(blob, spec):
            return False
        linked = staging.link(spec, blob)
        if linked and on_bytes:
            on_bytes(spec.size)
        return linked

    def remove(self, installed: Installed | Broken) -> None:
        """Take an adapter away: it disappears by one rename. Its content stays among the blobs until `prune`.

        Raises:
            NotFoundError: it is not there (any more).
            DiskError: the store can't be written.
        """
        folder = Path(installed.path)
        check_plain_folders(self.path, folder.parent)
        if not folder.is_symlink() and not folder.is_dir():
            raise NotFoundError(f"{folder.parent.parent.name}/{folder.parent.name} {folder.name} is not installed")
        with disk_errors(folder):
            self._set_aside(folder)

    def _set_aside(self, folder: Path) -> None:
        """Rename a folder away, then delete it; the empty folders above it go too."""
        aside = self.layout.fresh("gone")
        aside.parent.mkdir(parents=True, exist_ok=True)
        faults.reach("before-aside")
        try:
            folder.rename(aside)
        except FileNotFoundError:
            return
        faults.reach("after-aside")
        with contextlib.suppress(FileNotFoundError):
            fsync_folder(folder.parent)
        pruning.remove(aside)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()
            folder.parent.parent.rmdir()

    def measure(self, installed: Installed, rows: Iterable[Json], *, warn: Warn | None = None) -> Path:
        """Keep figures in an adapter's record (`hubcli.measured`); returns the record's file, which one rename replaces.

        Raises:
            NotFoundError: it was removed meanwhile. StoreTamperedError: its record is not what hubcli wrote.
            BusyError: another process holds the adapter. DiskError: the store can't be written.
        """
        name, version, folder = installed.record.name, installed.record.version, Path(installed.path)
        with self.lock(name, warn=warn), disk_errors(folder):
            present = self.get(name, version)
            if present is None:
                raise NotFoundError(f"{name} {version} was removed meanwhile")
            record = dataclasses.replace(present.record, measured=merged(present.record.measured, rows))
            fresh, installed_at = self.layout.fresh("record"), folder.stat()
            fresh.mkdir(parents=True)
            try:
                write_record(fresh, record)
                (fresh / NAME).replace(folder / NAME)
                os.utime(folder, ns=(installed_at.st_atime_ns, installed_at.st_mtime_ns))  # says when it was installed
            finally:
                pruning.remove(fresh)
            fsync_folder(folder)
        return folder / NAME

    # Looking after it

    def verify(self, installed: Installed | Broken, on_bytes: Callable[[int], None] | None = None) -> Verification:
        """Hash an adapter's files again.

        Raises:
            NotFoundError: it was removed meanwhile.
        """
        if isinstance(installed, Broken):
            kind = UNVERIFIABLE
            problem = Problem(installed.error.id, kind, NAME, "a record that can be read", installed.error.message)
            return Verification(installed.name, installed.version, installed.path, (problem,))
        found = verify_folder(self.path, installed, on_bytes)
        gone = [f"{n} {v}" for n, v in installed.record.pins.items() if not self.has(n, v)]
        lost = tuple(Problem("E_NOT_FOUND", MISSING, part, "it installed, as required", "nothing") for part in gone)
        return found._replace(problems=(*found.problems, *lost))

    def unused_blobs(self, grace: float = pruning.GRACE_SECONDS) -> list[tuple[Path, int]]:
        """Blobs that no installed adapter uses, older than `grace` seconds: (path, bytes).

        Raises:
            HubcliError: a record can't be read, so nobody knows what it uses; names the file.
            StoreTamperedError: there is a link among the blobs.
        """
        good, broken = self.scan()
        if broken:
            raise HubcliError(
                f"nothing is removed, because a record can't be read: {broken[0].path}/{NAME}",
                cause=broken[0].error.message,
                hint=f"'hubcli uninstall {broken[0].name}' or 'hubcli verify --repair' first",
            )
        check_plain_folders(self.path, self.layout.blobs)
        used = {spec.sha256 for item in good for spec in item.record.release.files}
        return [(path, status.st_size) for path, status in pruning.unused(self.layout, used, grace)]

    def prune(
        self,
        *,
        dry_run: bool = False,
        grace: float = pruning.GRACE_SECONDS,
        no_wait: bool = False,
        warn: Warn | None = None,
    ) -> pruning.Pruned:
        """Remove blobs that no installed adapter uses, what dead processes left behind, and what local pickles became.

        Raises:
            HubcliError: as `unused_blobs`.
            BusyError: another process prunes.
        """
        with (
            contextlib.nullcontext() if dry_run else self.lock("store", no_wait=no_wait, warn=warn),
            disk_errors(self.path),
        ):
            unused = self.unused_blobs(grace)
            check_plain_folders(self.layout.home, self.layout.converted)
            left = [*pruning.leftovers(self.layout, grace), *pruning.converted(self.layout)]
            freed = sum(size for _, size in unused) + sum(pruning.bytes_under(path, set()) for path in left)
            if not dry_run:
                for path in [path for path, _ in unused] + left:
                    pruning.remove(path)
        return pruning.Pruned(tuple(p.name for p, _ in unused), tuple(str(p) for p in left), freed, dry_run)

    def size(self) -> tuple[int, int]:
        """Bytes of all files of the store, each counted once, and the number of blobs."""
        with disk_errors(self.path):
            return pruning.bytes_under(self.path, set()), sum(1 for _ in pruning.blobs(self.layout))

    def converted_bytes(self) -> int:
        """Bytes of what pickled weights of local folders became."""
        return pruning.bytes_under(self.layout.converted, set())

    def doctor(self, *, fix: bool = False) -> list[pruning.Finding]:
        """Leftovers, folders without a usable record, links; `fix` removes the leftovers and nothing else.

        Raises:
            DiskError: the store can't be read, or with `fix` not be written.
        """
        findings = []
        with disk_errors(self.path):
            for path in pruning.leftovers(self.layout, pruning.GRACE_SECONDS):
                if fix:
                    pruning.remove(path)
                findings.append(pruning.Finding(str(path), "left by a process that ended in the middle", fixed=fix))
            findings += [pruning.Finding(item.path, item.error.message) for item in self.broken()]
            try:
                for folder in (self.layout.tmp, self.layout.blobs, self.layout.partial, self.layout.adapters):
                    check_plain_folders(self.layout.home, folder)
                list(pruning.blobs(self.layout))
            except HubcliError as error:
                findings.append(pruning.Finding(str(self.path), error.message))
        return findings
