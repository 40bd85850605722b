"""What a commit changes, as values: files put, files dropped, folders dropped."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from hubcli.server.faults import BadRequestFault, EntryMissing
from hubcli.server.objects import Commit, FileEntry

MAX_FILES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Put:
    """A file with this content, whether there was one or not."""

    path: str
    entry: FileEntry


@dataclass(frozen=True, slots=True)
class Drop:
    """No such file any more; with `folder`, no file below this path."""

    path: str
    folder: bool = False


Change = Put | Drop


def changed(before: Commit | None, changes: Iterable[Change]) -> dict[str, FileEntry]:
    """The files of a commit after these changes, made in order.

    EntryMissing for a drop of what is not there; BadRequestFault for files that can't stand side by side on every disk.
    """
    files = dict(before.files) if before else {}
    put: list[str] = []
    for change in changes:
        if isinstance(change, Put):
            files[change.path] = change.entry
            put.append(change.path)
        else:
            _drop(files, change, before)
    if len(files) > MAX_FILES:
        raise BadRequestFault(f"expected at most {MAX_FILES} files in a repo, found {len(files)}")
    _check_side_by_side(files, [path for path in put if path in files])
    return files


def _drop(files: dict[str, FileEntry], drop: Drop, before: Commit | None) -> None:
    start = f"{drop.path}/"
    gone = [path for path in files if path.startswith(start)] if drop.folder else [drop.path] * (drop.path in files)
    if not gone:
        what = "folder" if drop.folder else "file"
        # the words the Hugging Face client looks for, to say what may be wrong
        raise EntryMissing(f"A {what} with this name doesn't exist: {drop.path}", commit=before.id if before else "")
    for path in gone:
        del files[path]


def _check_side_by_side(files: Mapping[str, FileEntry], put: Iterable[str]) -> None:
    """A new file may not take the place of a folder, nor differ from another only in case or in how it is composed."""
    new = list(put)
    mine = {part for path in new for part in _parts(path)}
    folders: set[str] = set()
    names: dict[str, str] = {}
    for path in files:
        for part in _parts(path):
            other = names.setdefault(_folded(part), part)
            if other != part and (part in mine or other in mine):
                raise BadRequestFault(f"{part!r} and {other!r} would be one file on some disks")
        folders.update(_parts(path)[1:])
    for path in new:
        if path in folders or any(part in files for part in _parts(path)[1:]):
            raise BadRequestFault(f"{path!r}: a file and a folder of one name can't stand side by side")


def _parts(path: str) -> list[str]:
    """A path and the folders above it."""
    return [path, *(str(parent) for parent in PurePosixPath(path).parents[:-1])]


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def merged(
    base: Mapping[str, FileEntry], head: Mapping[str, FileEntry], onto: Mapping[str, FileEntry]
) -> tuple[list[Change], list[str]]:
    """What changed from `base` to `head`, as changes for `onto`, and the paths that `onto` has changed otherwise."""
    changes: list[Change] = []
    conflicts: list[str] = []
    for path in sorted(base.keys() | head.keys()):
        old, new, there = base.get(path), head.get(path), onto.get(path)
        if new in (old, there):
            continue
        if there != old:
            conflicts.append(path)
        changes.append(Put(path, new) if new else Drop(path))
    return changes, conflicts
