"""What the indexes say now of releases that are installed: active, deprecated, archived, yanked or quarantined.

The snapshots on this machine answer; no network is used. A remote index that was never fetched, one that is configured no more,
and a hub repository say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hubcli.errors import HubcliError, YankedError

if TYPE_CHECKING:
    from hubcli.index.catalog import Catalog
    from hubcli.manifest import Entry, Installed, Record, Release
    from hubcli.store.store import Broken

Json = dict[str, Any]


def state_row(release: Release | None) -> Json:
    """The worst that is said of a release: `state` and `reason`; the state is None where nothing is known.

    What is yanked, and was deprecated or archived too, has both in its reason.
    """
    if release is None:
        return {"state": None, "reason": None}
    if release.yanked and release.status != "quarantined":
        also = "" if release.status == "active" else f"; also {release.status}"
        why = f": {release.status_reason}" if also and release.status_reason else ""
        return {"state": "yanked", "reason": f"{release.yanked.reason}{also}{why}"}
    return {"state": release.status, "reason": release.status_reason or None}


def release_rows(entry: Entry) -> list[Json]:
    """Each release of an entry with its state, the newest first."""
    from hubcli.versions import in_order

    by_version = {release.version: release for release in entry.releases}
    return [{"version": version, **state_row(by_version[version])} for version in reversed(in_order(by_version))]


class States:
    """Asks the indexes of one workspace.

    Args:
        catalogs: gives the configured indexes; called when something is asked.
        warn: is told, each line once.
    """

    def __init__(self, catalogs: Callable[[], Sequence[Catalog]], warn: Callable[[str], None]):
        self._catalogs = catalogs
        self._warn = warn
        self._said: set[str] = set()
        self._entries: dict[tuple[str, str], Entry | None] = {}

    def say(self, lines: Iterable[str]) -> None:
        """Tell a person; what was told is not told again."""
        for line in lines:
            if line not in self._said:
                self._said.add(line)
                self._warn(line)

    def release(self, record: Record) -> Release | None:
        """An installed release as its index has it now; None where nothing is known."""
        entry = self._entry(record)
        return next((r for r in entry.releases if r.version == record.version), None) if entry else None

    def admit(self, record: Record, needed_by: str = "") -> None:
        """Stop at an installed release that is quarantined now; tell of one that is yanked, deprecated or archived.

        Raises:
            YankedError: E_QUARANTINED.
        """
        from hubcli.resolver import warnings_of

        release = self.release(record)
        if release is None:
            return
        if release.status == "quarantined":
            ref, instead = f"{record.name}@{record.version}", self.instead(record, release)
            raise YankedError(
                f"{record.name} {record.version} is quarantined: {release.status_reason or 'no reason given'}",
                cause=f"{needed_by} needs it" if needed_by else f"it is installed; index '{record.index}' says so now",
                hint=f"take it away: hubcli uninstall {ref}" + (f"; take instead: {instead}" if instead else ""),
                id="E_QUARANTINED",
            )
        self.say(warnings_of(record.name, release))

    def instead(self, record: Record, release: Release) -> str | None:
        """The ref to use in place of a withdrawn release, or None: what its keepers say, else what an install would take."""
        from hubcli.refs import Ref
        from hubcli.resolver import choose

        if release.yanked and release.yanked.replacement:
            return release.yanked.replacement
        entry = self._entry(record)
        try:
            other = choose(Ref("index", record.name), entry).version if entry else record.version
        except HubcliError:
            return None
        return f"{record.name}@{other}" if other != record.version else None

    def withdrawn(self, items: Iterable[Installed | Broken]) -> list[Json]:
        """A row for each installed release that is no more active: name, version, state, reason, instead."""
        rows = []
        for record in (found for item in items if (found := getattr(item, "record", None)) is not None):
            release = self.release(record)
            row = state_row(release)
            if release is not None and row["state"] != "active":
                instead = self.instead(record, release)
                rows.append({"name": record.name, "version": record.version, **row, "instead": instead})
        return rows

    def _entry(self, record: Record) -> Entry | None:
        key = (record.index, record.name)
        if key not in self._entries:
            self._entries[key] = self._look_up(*key)
        return self._entries[key]

    def _look_up(self, index: str, name: str) -> Entry | None:
        import json

        from hubcli.manifest import Entry

        if index == "hf":
            return None
        try:
            catalog = next((catalog for catalog in self._catalogs() if catalog.name == index), None)
            view = catalog.local_view if catalog else None
            raw = view.lookup(name) if view else None
        except HubcliError as error:
            self.say([f"nobody knows whether {name} was withdrawn: {error.message}"])
            return None
        return Entry.from_json(json.loads(raw)) if raw else None
