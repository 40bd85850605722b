"""Where an index entry goes: a branch of a git checkout, a pull request on a hub, or a plain folder. What all three say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from hubcli.errors import EntryError
from hubcli.frozen import frozen
from hubcli.index.state import OWNERS, State


@frozen
class Base:
    """An index as a release joins it: all its names, and the bytes of one entry and of `_owners.json`, None where there is none;
    `meta` are those of `_index.json`.

    `version` stands for this state: what is written on it is refused, or done anew, where the index is another by then.
    """

    names: tuple[str, ...]
    entry: bytes | None
    owners: bytes | None
    version: str = ""
    meta: bytes | None = None


@frozen
class Written:
    """Where a release stands in an index, and how it gets on from there.

    `branch` and `pull_request` are set where it waits to be taken in; `next` is the command or the page for that.
    """

    branch: str | None = None
    pull_request: str | None = None
    next: str | None = None
    changed: bool = True


@frozen
class Waiting:
    """A proposal of a release that nobody has taken in yet: its entry's bytes, None where it has none; `undo` takes it back."""

    entry: bytes | None
    written: Written
    undo: str


class Place(Protocol):
    """One index that can be written. `kind` is git, hub or folder; `where` names it for people.

    `by` is who proposes, as a person says: the account that the index's checks will name.
    """

    kind: str
    where: str
    by: str | None

    def base(self, name: str) -> Base:
        """The index as it is now; raises where it can't be read, or could not be written."""

    def waiting(self, name: str, version: str) -> Waiting | None:
        """The entry of a release that was proposed before; raises where none could be proposed under this name and version."""

    def proposed(self, name: str) -> list[tuple[str, str]]:
        """(version, where it waits) of what may be a proposal of this entry's: whatever is called so."""

    def planned(self, name: str, version: str) -> str:
        """What `write` will make, for people."""

    def proposer(self) -> str | None:
        """Who proposes: `by`, or the account that a hub shows; None where nobody said so."""

    def write(self, base: Base, files: Mapping[str, bytes], name: str, version: str) -> Written:
        """Write files (path in the index → bytes) on a base; whole or not at all.

        Raises:
            RaceError: the index is no longer the base's.
        """


def refuse_links(state: State, name: str) -> None:
    """Refuse an index in which an entry, or its owners, are behind a link: readers may follow it, writers never do.

    Raises:
        EntryError: E_PATH_UNSAFE, with the link.
    """
    read = (name.partition("/")[0], f"{name}.json", OWNERS)
    link = next((link for link in state.links if link in read), None)
    if link is not None:
        hint = "put what it leads to in its place: an index is made of folders and regular files"
        raise EntryError(f"{state.where}: {link} is a link or no regular file", hint=hint, id="E_PATH_UNSAFE")
