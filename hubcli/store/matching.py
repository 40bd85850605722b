"""Which installed release a spec means: the newest version in a range, or a hub commit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hubcli.manifest import Installed
from hubcli.versions import Range


def newest(found: Sequence[Installed], spec: str) -> Installed | None:
    """The newest of several installed releases of one name that `spec` allows, or None.

    For names of an index `spec` is a version range ("" for any; prereleases only when the range names one). For `hf:`
    names it is a commit, the start of one (at least 7 digits), or the branch or tag that was asked for at install.

    Raises:
        RefError: the text is no range.
    """
    if found and found[0].record.name.startswith("hf:"):
        return _hub(found, spec)
    version = Range(spec).newest(item.record.version for item in found)
    return next((item for item in found if item.record.version == version), None)


def _hub(found: Sequence[Installed], spec: str) -> Installed | None:
    def asked(item: Installed) -> str:
        return item.record.requested.partition("@")[2] or "main"

    fits = [i for i in found if not spec or asked(i) == spec or (len(spec) >= 7 and i.record.version.startswith(spec))]
    return max(fits, key=lambda i: (i.record.release.published, _since(i), i.record.version), default=None)


def _since(item: Installed) -> int:
    """When it was installed, in nanoseconds: commits of one second are told apart by it."""
    folder = Path(item.path)
    return folder.stat().st_mtime_ns if folder.is_dir() else 0
