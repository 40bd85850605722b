"""An index entry in a plain folder: each file is written whole and put in place by a rename."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from hubcli.errors import DiskError, NotFoundError, RaceError
from hubcli.index.state import OWNERS, folder_state
from hubcli.publishing.place import Base, Waiting, Written, refuse_links
from hubcli.store.faults import reach
from hubcli.whole_file import write_whole


class IntoFolder:
    """A folder that is the index itself: what is written is published."""

    kind = "folder"

    def __init__(self, folder: Path, by: str | None = None):
        self.folder, self.by = folder, by
        self.where = str(folder)

    def base(self, name: str) -> Base:
        """The folder as it is.

        Raises:
            NotFoundError: there is no such folder. DiskError: it can't be written.
            EntryError: E_PATH_UNSAFE, the entry is behind a link.
        """
        if not self.folder.is_dir():
            raise NotFoundError(f"the index folder {self.folder} does not exist", hint="mkdir it for a new index")
        if not os.access(self.folder, os.W_OK):
            raise DiskError(f"can't write {self.folder}", cause="permission denied")
        state = folder_state(self.folder)
        refuse_links(state, name)
        entry = state.entries.get(name)
        return Base(tuple(state.entries), entry, state.owners, _digest(entry, state.owners, state.meta), state.meta)

    def waiting(self, name: str, version: str) -> Waiting | None:
        """Nothing waits here."""
        del name, version
        return None

    def proposed(self, name: str) -> list[tuple[str, str]]:
        """Nothing waits here."""
        del name
        return []

    def planned(self, name: str, version: str) -> str:
        """The file."""
        del version
        return f"{self.folder / name}.json"

    def proposer(self) -> str | None:
        """Who is said to."""
        return self.by

    def write(self, base: Base, files: Mapping[str, bytes], name: str, version: str) -> Written:
        """The files, the entry last: whoever reads in between sees the index before or after.

        Raises:
            RaceError: the entry is another by now. DiskError: it can't be written.
        """
        with alone(self.folder):
            if self.base(name).version != base.version:
                raise RaceError(f"{self.folder}: {name} was changed in between", hint="run the same command again")
            for path in sorted(files, key=lambda path: path != OWNERS):
                reach("publish-before-index")
                write_whole(self.folder / path, files[path])
        return Written()


def _digest(*parts: bytes | None) -> str:
    return " ".join("-" if part is None else hashlib.sha256(part).hexdigest() for part in parts)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One writer of an index folder at a time, where the system has locks on folders; nothing is left in the folder for it."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
