"""Hashing an installed adapter again, and saying what differs."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hubcli.errors import HubcliError, NotFoundError, StoreTamperedError
from hubcli.manifest import Installed
from hubcli.store import record as records
from hubcli.store.files import check_plain_folders, digest

OK, MODIFIED, MISSING, EXTRA, UNVERIFIABLE = "ok", "modified", "missing", "extra", "unverifiable"
_ORDER = (UNVERIFIABLE, MODIFIED, MISSING, EXTRA)


class Problem(NamedTuple):
    """One finding: `kind` a status, `path` relative to the adapter's folder, `expected` and `found` as text."""

    id: str
    kind: str
    path: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, found {self.found}"


class Verification(NamedTuple):
    """What `verify` found for one adapter."""

    name: str
    version: str
    path: str
    problems: tuple[Problem, ...] = ()

    @property
    def status(self) -> str:
        """The worst kind among the problems (unverifiable, modified, missing, extra), or ok."""
        return next((kind for kind in _ORDER if any(p.kind == kind for p in self.problems)), OK)

    @property
    def ok(self) -> bool:
        """Nothing differs."""
        return not self.problems


def verify_folder(root: Path, installed: Installed, on_bytes: Callable[[int], None] | None = None) -> Verification:
    """Compare every file of an adapter with its record, which is read again from the disk.

    Raises:
        NotFoundError: the adapter was removed or replaced while this looked at it.
    """
    folder, record = Path(installed.path), installed.record
    before = _identity(folder)
    problems = _problems(root, folder, on_bytes)
    if problems and (before is None or before != _identity(folder)):
        raise NotFoundError(
            f"{record.name} {record.version} was removed or replaced while it was verified", hint="verify again"
        )
    return Verification(record.name, record.version, str(folder), tuple(problems))


def _identity(folder: Path) -> tuple[int, int, int] | None:
    try:
        status = folder.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


def _problems(root: Path, folder: Path, on_bytes: Callable[[int], None] | None) -> list[Problem]:
    try:
        check_plain_folders(root, folder)
        record = records.read_record(folder)
    except HubcliError as error:
        kind = MODIFIED if isinstance(error, StoreTamperedError) and folder.is_symlink() else UNVERIFIABLE
        return [Problem(error.id, kind, records.NAME, "a record that can be read", error.message)]
    problems = []
    for spec in record.release.files:
        problem = _file_problem(folder, spec.path, spec.size, spec.sha256, on_bytes)
        if problem:
            problems.append(problem)
    known = {spec.path for spec in record.release.files} | {records.NAME}
    try:
        return problems + [_extra(folder, path) for path in listing(folder) if path not in known]
    except OSError as error:
        return [
            *problems,
            Problem("E_DISK", UNVERIFIABLE, ".", "a folder that can be listed", error.strerror or str(error)),
        ]


def _file_problem(
    folder: Path, path: str, size: int, sha256: str, on_bytes: Callable[[int], None] | None
) -> Problem | None:
    try:
        check_plain_folders(folder, (folder / path).parent)
        found_size, found = digest(folder / path, on_bytes)
    except FileNotFoundError:
        return Problem("E_NOT_FOUND", MISSING, path, f"{size:,} bytes", "nothing")
    except StoreTamperedError as error:
        return Problem(error.id, MODIFIED, path, "a plain file", error.message)
    except OSError as error:
        return Problem("E_DISK", UNVERIFIABLE, path, f"{size:,} bytes", error.strerror or str(error))
    if found_size != size:
        return Problem(
            "E_SIZE", MODIFIED, path, f"{size:,} bytes, sha256 {sha256}", f"{found_size:,} bytes, sha256 {found}"
        )
    return None if found == sha256 else Problem("E_HASH", MODIFIED, path, f"sha256 {sha256}", f"sha256 {found}")


def _extra(folder: Path, path: str) -> Problem:
    if stat.S_ISLNK((folder / path).lstat().st_mode):
        return Problem("E_STORE_TAMPERED", MODIFIED, path, "nothing", "a link")
    return Problem("E_STORE_TAMPERED", EXTRA, path, "nothing", "a file that is not of this release")


def listing(folder: Path) -> list[str]:
    """POSIX paths of all that lies under a folder, folders themselves left out unless empty; links are named, not followed."""
    found = []
    stack = [""]
    while stack:
        prefix = stack.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                path = f"{prefix}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    stack.append(f"{path}/")
                else:
                    found.append(path)
    return sorted(found)
