"""Discussions and pull requests as values: no disk, no HTTP.

A pull request is a discussion with commits of its own: `base` is the commit of `target` that it started from, `head`
its newest commit, which `refs/pr/<number>` names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from hubcli.server.objects import FORMAT_V, check_format

OPEN, CLOSED, MERGED, DRAFT = "open", "closed", "merged", "draft"
Json = dict[str, Any]
_FIELDS: Final = ("number", "title", "status", "author", "created", "target", "base", "head", "merged")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened: `kind` is comment, commit, status-change or title-change; `data` says what."""

    id: str
    kind: str
    author: str
    date: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Discussion:
    """A discussion; a pull request where `target` (the branch to change) is not None. `merged` is the commit on target."""

    number: int
    title: str
    status: str
    author: str
    created: str
    events: tuple[Event, ...] = ()
    target: str | None = None
    base: str | None = None
    head: str | None = None
    merged: str | None = None

    @property
    def is_pull(self) -> bool:
        """Whether it brings commits."""
        return self.target is not None

    @property
    def is_live(self) -> bool:
        """Whether it still takes commits and may be merged."""
        return self.status in (OPEN, DRAFT)

    def having(self, kind: str, author: str, date: str, data: Mapping[str, Any], **changed: Any) -> Discussion:
        """The same with one more event, and other fields changed with it."""
        event = Event(f"{self.number:08x}{len(self.events):016x}", kind, author, date, data)
        return replace(self, events=(*self.events, event), **changed)

    def to_json(self) -> Json:
        """The document kept on disk."""
        fields = {name: getattr(self, name) for name in _FIELDS}
        return {"v": FORMAT_V, **fields, "events": [asdict(event) for event in self.events]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Discussion:
        """Read a document back."""
        check_format(document, "discussion")
        events = tuple(Event(**event) for event in document["events"])
        return cls(**{name: document[name] for name in _FIELDS}, events=events)
