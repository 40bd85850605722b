"""One configured index: its source, the state last seen, and the view that answers. Nothing is touched before it is asked.

Under `HUBCLI_HOME/indexes/<name>-<hash of url>/` lie `state.json` and the view of one snapshot. A local source
is looked at each time; a remote one when there is no view yet, or when the caller wants news (`refresh`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli import paths
from hubcli.config import BUNDLED, IndexConfig, hub_index, own_hub
from hubcli.errors import EntryError, NetworkError, NotFoundError, OfflineError
from hubcli.index import view
from hubcli.index.sources import FolderSource, Snapshot, Source
from hubcli.index.view import Hit, View

if TYPE_CHECKING:
    from hubcli.schema import Fault

STALE_SECONDS = 3600


class Catalog:
    """An index by its configured name. Reading it may build its view, and for a remote one fetch its snapshot.

    Args:
        config: name, URL, scopes.
        refresh: ask a remote source for news instead of reading the last snapshot.
        offline: the switch that turns the network off, None when it is on.
        tokens: origin → token, for remote sources.
        source: where to read from, instead of what the URL says.
    """

    def __init__(
        self,
        config: IndexConfig,
        *,
        refresh: bool = False,
        offline: str | None = None,
        tokens: dict[str, str] | None = None,
        source: Source | None = None,
    ):
        self.config = config
        self.name = config.name
        self.refresh = refresh
        self.offline = offline
        self._place = f"{config.url} {own_hub()}" if hub_index(config.url) else config.url
        key = hashlib.sha256(self._place.encode()).hexdigest()[:8]
        self.folder = paths.home() / "indexes" / f"{config.name}-{key}"
        self._source = source or open_source(config, tokens or {}, offline, self.folder)
        self._state: dict[str, Any] = {}

    def serves(self, name: str) -> bool:
        """Is this index asked for this name? One with scopes serves those alone."""
        return not self.config.scopes or self.pins(name)

    def pins(self, name: str) -> bool:
        """Does a scope of this index match the name, so that no index without one is asked?"""
        return any(fnmatchcase(name, scope) for scope in self.config.scopes)

    @cached_property
    def view(self) -> View:
        """The view of the state that this object answers from: one state, however long it lives."""
        state = self._read_state()
        opened = self._open(state)
        if opened is not None and not self._source.local:
            if not self.refresh or self.offline:
                self._state = state
                return opened
        elif not self._source.local and self.offline:
            message = f"the index '{self.name}' ({self._source.where}) was never fetched, and the network is off"
            raise OfflineError(message, hint=f"unset {self.offline}, or run 'hubcli index update' once while online")
        with unset_told(self.config):
            changed = self._source.changed(str(state["validator"]) if opened is not None else "")
            if changed is None and opened is not None:
                self._state = state
                return opened
            if opened is not None:
                opened.close()
            assert changed is not None, "a source that was never seen has a state"
            return self._renew(*changed)

    @property
    def local_view(self) -> View | None:
        """The view as far as this machine has it: a remote index that was never fetched has none. No network."""
        known = self._source.local or "view" in self.__dict__ or self._file(self._read_state().get("snapshot")).exists()
        if known and not self._source.local:
            self.refresh = False
        return self.view if known else None

    @property
    def snapshot_sha256(self) -> str:
        """The identity of the state that answers, 64 hex digits."""
        return str(self._seen()["snapshot"])

    @property
    def endpoint(self) -> str | None:
        """The hub that the index names for its files, or None."""
        endpoint: str | None = self._seen()["endpoint"]
        return endpoint

    @property
    def file_roots(self) -> tuple[str, ...]:
        """Folders or URLs that hold files by sha256."""
        return tuple(self._seen()["file_roots"])

    def has(self, name: str) -> bool:
        """Does the index have this name?"""
        return self.view.has(name)

    def lookup(self, name: str) -> bytes | None:
        """The raw bytes of an entry, or None; EntryError where the entry is faulty."""
        return self.view.lookup(name)

    def names_like(self, name: str, limit: int = 3) -> list[str]:
        """Names close to this one."""
        return self.view.names_like(name, limit)

    def names_near(self, name: str) -> list[str]:
        """Other names that a person may take for this one."""
        return self.view.names_near(name)

    def search(self, query: str, *, limit: int, **filters: str | None) -> list[Hit]:
        """Ranked hits; see `View.search`."""
        return self.view.search(query, limit=limit, **filters)

    def faults(self) -> list[tuple[str, Fault]]:
        """(name, fault) of the entries that were refused."""
        return self.view.faults()

    def update(self) -> bool:
        """Ask the source for news now; True when the snapshot is another than before."""
        before = self._read_state().get("snapshot")
        self.refresh = True
        with contextlib.suppress(AttributeError):
            del self.view
        return self.snapshot_sha256 != before

    def _seen(self) -> dict[str, Any]:
        _ = self.view
        return self._state

    def _file(self, snapshot: object) -> Path:
        return self.folder / view.file_name(str(snapshot))

    def _open(self, state: dict[str, Any]) -> View | None:
        """The view that the state names; None where it is gone or damaged, so that it is built again."""
        try:
            return View.open(self._file(state["snapshot"]), self.name) if state else None
        except EntryError:
            return None

    def _read_state(self) -> dict[str, Any]:
        """The state last written; {} where there is none that this version can use."""
        try:
            state = json.loads((self.folder / "state.json").read_bytes())
            return dict(state) if state["format"] == view.FORMAT and state["url"] == self._place else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _renew(self, validator: str, snapshot: Snapshot) -> View:
        state = {
            "format": view.FORMAT,
            "url": self._place,
            "validator": validator,
            "snapshot": snapshot.sha256,
            "endpoint": snapshot.endpoint,
            "file_roots": list(snapshot.file_roots),
        }
        self._state = state
        if snapshot.sha256 and (opened := self._open(state)):
            self._write_state()
            return opened
        from hubcli.index import fill

        temporary = view.temporary_file(self.folder)
        if temporary is None:
            built, state["snapshot"] = fill.build_in_memory(snapshot, self.name)
            return built
        file, state["snapshot"] = fill.build(snapshot, temporary, self.name)
        self._write_state()
        self._prune(file)
        return View.open(file, self.name)

    def _write_state(self) -> None:
        temporary = view.temporary_file(self.folder)
        if temporary is not None:
            temporary.write_text(json.dumps(self._state, indent=1) + "\n", encoding="utf-8")
            temporary.replace(self.folder / "state.json")

    def _prune(self, keep: Path) -> None:
        """Remove views of older snapshots, and what interrupted builders left."""
        for entry in os.scandir(self.folder):
            with contextlib.suppress(OSError):  # another builder may have taken its own away meanwhile
                old = entry.name.endswith(".tmp") and entry.stat().st_mtime < time.time() - STALE_SECONDS
                if old or (entry.name.endswith(".sqlite") and entry.name != keep.name):
                    Path(entry.path).unlink()


def unset_variable(config: IndexConfig) -> str | None:
    """What to tell of an index whose token stands in a variable that is not set; None where it is set, or none is named."""
    if not config.token_env or os.environ.get(config.token_env):
        return None
    return f"the variable {config.token_env}, which is to hold the token of index '{config.name}', is not set"


@contextlib.contextmanager
def unset_told(config: IndexConfig) -> Iterator[None]:
    """Say with an index's refusal that the variable of its token is not set, where it is not."""
    try:
        yield
    except (NetworkError, NotFoundError) as error:  # a hub hides a private repository from who has no token
        if error.id in ("E_DENIED", "E_NOT_FOUND"):
            error.hint = unset_variable(config) or error.hint
        raise


def open_source(config: IndexConfig, tokens: dict[str, str], offline: str | None, folder: Path) -> Source:
    """The source for an index's URL; one that needs it may keep what it fetched in `folder`.

    Raises:
        UsageError: E_CONFIG, no source reads this kind of URL.
    """
    if config.url == BUNDLED:
        return FolderSource(paths.bundled("registry-index"))
    if config.url.startswith(("http://", "https://")):
        from hubcli.http import Http
        from hubcli.index.static import HttpSource

        return HttpSource(config.url, Http(tokens, offline))
    if found := hub_index(config.url):
        from hubcli.index.hub_source import HubIndexSource

        token = os.environ.get(config.token_env, "") if config.token_env else None
        return HubIndexSource(*found, token=token, tokens=tokens, offline=offline, cache=folder)
    local = config.folder
    if local is None:
        return _from_plugin(config)
    if (local / "index.json").is_file():
        from hubcli.index.static import StaticFolderSource

        return StaticFolderSource(local)
    return FolderSource(local, config.name)


def _from_plugin(config: IndexConfig) -> Source:
    """An `index-…` plugin's class, called with the URL."""
    from importlib import import_module

    from hubcli.errors import UsageError
    from hubcli.plugins import plugins

    scheme = config.url.partition("://")[0]
    known: list[str] = []
    for found in plugins().of_kind("index"):
        loaded = plugins().load(found.name)
        known += loaded.index_sources if loaded else {}
        if loaded and scheme in loaded.index_sources:
            module, _, attribute = loaded.index_sources[scheme].partition(":")
            make: Callable[[str], Source] = getattr(import_module(module), attribute)
            return make(config.url)
    kinds = ", ".join(
        ["a folder", "hf:datasets/ORG/NAME", "file://", "http://", "https://", *sorted(f"{k}://" for k in known)]
    )
    message = f"index '{config.name}': no source reads {scheme}:// (there are: {kinds})"
    hint = f"hubcli index remove {config.name}" if config.origin == "user" else f"it stands in: {config.origin}"
    raise UsageError(message, hint=hint, id="E_CONFIG")


def open_catalogs(
    configs: tuple[IndexConfig, ...],
    *,
    refresh: bool = False,
    offline: str | None = None,
    tokens: dict[str, str] | None = None,
) -> Iterator[Catalog]:
    """The configured indexes in their order; none is read yet."""
    for config in configs:
        yield Catalog(config, refresh=refresh, offline=offline, tokens=tokens)
