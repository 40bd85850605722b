"""What is to be published, checked and complete, before anything is written: the hand-over from checks to the push."""

from __future__ import annotations

from dataclasses import field, replace
from hashlib import sha256
from pathlib import Path

from hubcli.frozen import frozen
from hubcli.manifest import ENTRY_V, Entry, FileSpec, HubLocation, Json, Release


@frozen
class DraftFile:
    """One file of the repository: its path there, size in bytes, sha256, and where its bytes are: a file, or `data`.

    `role` is the one the index entry gives it; None for what is in the repository alone (a plot beside the card).
    """

    path: str
    size: int
    sha256: str
    role: str | None
    source: Path | None = None
    data: bytes | None = None

    @classmethod
    def made(cls, path: str, raw: bytes, role: str | None) -> DraftFile:
        """A file of these bytes."""
        return cls(path, len(raw), sha256(raw).hexdigest(), role, data=raw)


@frozen
class Draft:
    """A release and its files. `release` has no `hub` yet, and "" as `published`: the commit on the hub decides both.

    `notes` are lines that a person should read before the push: what was checked and how, what was left out and why.
    """

    name: str
    kind: str
    description: str
    authors: tuple[Json, ...]
    release: Release
    files: tuple[DraftFile, ...]
    notes: tuple[str, ...] = field(default=())

    def specs(self) -> tuple[FileSpec, ...]:
        """The files that the index entry lists."""
        return tuple(FileSpec(f.path, f.size, f.sha256, f.role) for f in self.files if f.role is not None)

    def published(self, repo: str, commit: str, when: str) -> Release:
        """The release as the entry has it: its bytes at a commit of a repository, since `when` (UTC, YYYY-MM-DDThh:mm:ssZ)."""
        return replace(self.release, files=self.specs(), hub=HubLocation(repo, commit), published=when)

    def entry(self, release: Release, before: tuple[Release, ...] = ()) -> Entry:
        """The entry with this release as its newest."""
        return Entry(ENTRY_V, self.kind, self.name, self.description, self.authors, (*before, release))
