"""A name that is easily taken for an older one of its index: what a person is told before its first install."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hubcli.manifest import Resolved
    from hubcli.resolver import Index


def doubt(resolved: Resolved, index: Index) -> str | None:
    """A line that names the oldest other name, if that was there first; None where nothing is near, or all of it is younger."""
    others = {name: _since(index, name) for name in index.names_near(resolved.name)}
    if not others:
        return None
    oldest = min(others, key=lambda name: others[name])
    if others[oldest] >= _since(index, resolved.name):
        return None
    return f"{resolved.name} is easily taken for {oldest}, which index '{index.name}' had before it: is it the one you mean?"


def _since(index: Index, name: str) -> datetime:
    document: dict[str, Any] = json.loads(index.lookup(name) or b"{}")
    return min(datetime.fromisoformat(release["published"]) for release in document["releases"])
