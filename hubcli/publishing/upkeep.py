"""An edit of an entry by those who keep an index: the file of a folder in its place, or a pull request on the hub."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hubcli.errors import DiskError, RaceError
from hubcli.frozen import frozen
from hubcli.index.edit import Edited
from hubcli.index.sources import ENTRY_LIMIT
from hubcli.index.state import folder_state
from hubcli.publishing.draft import DraftFile
from hubcli.publishing.into_folder import alone
from hubcli.publishing.into_git import IntoGit
from hubcli.publishing.into_hub import IntoHub
from hubcli.publishing.place import Place, refuse_links
from hubcli.publishing.push import TRIES
from hubcli.publishing.refused import AGAIN
from hubcli.whole_file import write_whole

Editing = Callable[[bytes | None, list[str]], Edited]


@frozen
class Kept:
    """Where an edit stands: the file that was written, or the pull request; `next` is the command or the page to go on with."""

    edited: Edited
    file: str | None = None
    pull_request: str | None = None
    next: str | None = None
    changed: bool = False


def keep(place: Place, name: str, title: str, editing: Editing, *, dry_run: bool) -> Kept:
    """Edit one entry of an index.

    Args:
        place: the index, as `places.place_of` finds it.
        title: of the commit or pull request.
        editing: the entry's bytes (None: no such name) and all names → the edit.

    Raises:
        NotFoundError, EntryError: as `editing`; EntryError: E_PATH_UNSAFE, the entry is behind a link.
        DiskError: the file can't be read or written. RaceError: others write it all the time.
        NetworkError, RaceError, PolicyError: as the hub says.
    """
    if isinstance(place, IntoHub):
        return _on_hub(place, name, title, editing, dry_run)
    folder: Path = place.folder  # type: ignore[attr-defined]
    file = folder / f"{name}.json"
    edited = _in_folder(folder, name, editing, dry_run)
    there = shlex.quote(str(folder))
    following = f"git -C {there} commit -m {shlex.quote(title)} -- {shlex.quote(f'{name}.json')}"
    in_git = isinstance(place, IntoGit) and edited.changed
    return Kept(edited, str(file), None, following if in_git else None, edited.changed and not dry_run)


def _in_folder(folder: Path, name: str, editing: Editing, dry_run: bool) -> Edited:
    """The edit, written to its file: made anew where another was written since it was read."""
    file = folder / f"{name}.json"
    for _ in range(TRIES):
        state = folder_state(folder)
        refuse_links(state, name)
        before = _read(file)
        edited = editing(before, [*state.entries])
        if dry_run or not edited.changed:
            return edited
        with alone(folder):
            if _read(file) == before:
                write_whole(file, edited.data)
                return edited
    raise RaceError(f"{file} is changed by others all the time", hint=AGAIN)


def _on_hub(place: IntoHub, name: str, title: str, editing: Editing, dry_run: bool) -> Kept:
    repository = place.repository
    base = place.base(name)
    edited = editing(base.entry, [*base.names])
    if not edited.changed:
        return Kept(edited)
    for number, head in place.proposals(title):
        entry = repository.read(head, f"{name}.json", ENTRY_LIMIT)
        if entry is not None and _same(entry, edited.data):
            page = f"{repository.where}/discussions/{number}"
            return Kept(edited, None, page, page)
    if dry_run:
        return Kept(edited)
    draft = DraftFile(f"{name}.json", len(edited.data), "", None, data=edited.data)
    made: Any = repository.commit([draft], (), title=title, text="", parent=base.version, pull_request=True)
    page = f"{repository.where}/discussions/{made.pr_num}"
    return Kept(edited, None, page, page, True)


def _same(proposed: bytes, wanted: bytes) -> bool:
    """Is an entry that was proposed before this one, but for the day of the yank?"""
    try:
        return bool(_undated(proposed) == _undated(wanted))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def _undated(raw: bytes) -> Any:
    entry = json.loads(raw)
    return {**entry, "releases": [{**r, "yanked": {**(r.get("yanked") or {}), "date": ""}} for r in entry["releases"]]}


def _read(file: Path) -> bytes | None:
    """The entry's file; None where there is none."""
    try:
        with file.open("rb") as stream:
            return stream.read(ENTRY_LIMIT + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DiskError(f"can't read {file}", cause=error.strerror) from None
