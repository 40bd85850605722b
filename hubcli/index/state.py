"""One state of an index folder as a check reads it: from the disk, or from a revision of the git checkout that holds it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from hubcli.errors import NotFoundError
from hubcli.frozen import frozen
from hubcli.index.sources import ENTRY_LIMIT, FILES, META, META_LIMIT, STATIC, entry_files, read_entries

OWNERS = "_owners.json"
OWNERS_LIMIT = 1024 * 1024


@frozen
class State:
    """`entries`: name as the path says it → bytes, one too many of what is over the limit; `meta` and `owners`: the bytes of
    `_index.json` and `_owners.json`, or None; `stored`: names in `_files/`; `links`: what is no regular file or folder; `site`:
    the bytes of `index.json`, which makes readers of a folder take the site for the index, or None.
    """

    where: str
    entries: Mapping[str, bytes]
    meta: bytes | None = None
    owners: bytes | None = None
    stored: frozenset[str] = frozenset()
    links: tuple[str, ...] = ()
    site: bytes | None = None


def folder_state(folder: Path) -> State:
    """What a folder holds now. Links are named and not followed.

    Raises:
        NotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        raise NotFoundError(f"the index folder {folder} does not exist")
    links = tuple(sorted(_links(folder)))
    linked = {link.split("/")[0] for link in links if "/" not in link} | {*links}
    files = [(name, entry) for name, entry in entry_files(folder) if not {name.split("/")[0], f"{name}.json"} & linked]
    stored = [e.name for e in os.scandir(folder / FILES)] if (folder / FILES).is_dir() and FILES not in linked else []
    return State(
        str(folder),
        dict(read_entries(files)),
        _read(folder / META, ENTRY_LIMIT, linked),
        _read(folder / OWNERS, OWNERS_LIMIT, linked),
        frozenset(name for name in stored if f"{FILES}/{name}" not in linked),
        links,
        _read(folder / STATIC, META_LIMIT, linked),
    )


def _links(folder: Path) -> Iterable[str]:
    """What lies where entries and files are read, and is neither; folders inside a group are not read."""
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            for inside in os.scandir(entry.path):
                passed = (
                    inside.is_dir(follow_symlinks=False) and entry.name != FILES and not inside.name.endswith(".json")
                )
                if not passed and not inside.is_file(follow_symlinks=False):
                    yield f"{entry.name}/{inside.name}"
        elif not entry.is_file(follow_symlinks=False):
            yield entry.name


def _read(file: Path, limit: int, links: set[str]) -> bytes | None:
    if file.name in links or not file.is_file():
        return None
    with file.open("rb") as stream:
        return stream.read(limit + 1)
