"""Where the parts of what is published are looked for: the index it goes to, then the configured ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from hubcli.config import IndexConfig, hub_index
from hubcli.index.catalog import Catalog
from hubcli.paths import home
from hubcli.progress import Silent
from hubcli.resolver import Resolver

if TYPE_CHECKING:
    from hubcli.api.workspace import Workspace
    from hubcli.index.sources import Source
    from hubcli.manifest import Resolved

TARGET = "target"  # what an index is called here that is not configured


class Target(Catalog):
    """An index asked before all others for the names that it has, and for no other: who has it alone can install those."""

    def serves(self, name: str) -> bool:
        """Does it have the name? Scopes say what an index is asked for here; who installs from it may have none."""
        return self.has(name)

    def pins(self, name: str) -> bool:
        """No other index is asked for what it has."""
        return self.has(name)


def resolver_to(where: str, workspace: Workspace) -> tuple[Resolver, str]:
    """(what resolves the parts of a release that goes to an index, that index's name in what it resolves).

    Args:
        where: the index, as `Place.where` says it: an absolute folder, or hf:datasets/ORG/NAME.
    """
    config = workspace.config
    own = next((one for one in config.indexes if where in (one.url, str(one.folder))), None)
    given = own or IndexConfig(TARGET, where)
    target = Target(
        replace(given, scopes=()),
        refresh=True,
        offline=config.offline,
        tokens=config.tokens(),
        source=_source(given, workspace),
    )
    others = [catalog for catalog in workspace.catalogs if catalog.config is not own]
    return Resolver([target, *others]), given.name


def install_parts(parts: Iterable[Resolved], workspace: Workspace) -> None:
    """Install what a fusion works over from where it was found: that may be an index that is not configured here.

    Raises:
        HubcliError: as an install does.
    """
    for part in parts:
        if workspace.store.find(part.name, "") is None:
            for _ in workspace.install_all(part, Silent()):
                pass


def _source(index: IndexConfig, workspace: Workspace) -> Source | None:
    """A repository of the hub read with the token that the caller gave; None where the index's own source does."""
    found = hub_index(index.url)
    if found is None or workspace.token is None or index.token_env:
        return None
    from hubcli.index.hub_source import HubIndexSource

    config, cache = workspace.config, home() / "indexes" / TARGET
    return HubIndexSource(
        *found, token=workspace.token, tokens=config.tokens(), offline=config.offline, cache=cache / found[0]
    )
