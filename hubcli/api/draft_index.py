"""Where the parts of what is published are looked for: the index it goes to, then the configured ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hubcli.config import IndexConfig, hub_index
from hubcli.errors import HubcliError
from hubcli.index.catalog import Catalog
from hubcli.paths import home
from hubcli.progress import Silent
from hubcli.publishing.findings import Finding
from hubcli.refs import NAME, parse_ref
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


def required(children: Sequence[str], given: Mapping[str, str] | None) -> tuple[dict[str, str], list[Finding]]:
    """(what a fusion requires, name -> version range or "", in its own order; what stands against what was said).

    Args:
        children: what it works over, as its folder or its recipe names them. given: name -> range, by a person.
    """
    if not given:
        return dict.fromkeys(children, ""), []
    known = [_index_name(child) for child in children]
    missing = [name for name in known if name is not None and name not in given]
    if len(given) != len(children) or missing:
        hint = "name each adapter that it was trained over once: requires (--requires NAME=RANGE)"
        said = f"{len(children)}, for {', '.join(children)}"
        return dict(given), [Finding("requires", "", said, f"{len(given)}: {', '.join(given)}", hint)]
    if None in known:  # nobody knows which is which: they stand for one another in the order that they are given in
        return dict(given), []
    return {name: given[name] for name in known if name is not None}, []


def _index_name(child: str) -> str | None:
    """The name of an index that a child has; None of one that has another."""
    try:
        ref = parse_ref(child)
    except HubcliError:
        return None
    return ref.name if ref.kind == "index" and NAME.match(ref.name) else None


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
