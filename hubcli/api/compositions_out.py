"""Publishing a composition: an entry that names others, with no files and no repository of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hubcli.api.workspace import Workspace
from hubcli.composition import Expr
from hubcli.compositions import names, renamed
from hubcli.config import IndexConfig
from hubcli.index.compose import refuse_cycle, required_ref
from hubcli.index.owners import read_owners
from hubcli.publishing.composed import composed
from hubcli.publishing.entering import check_rights, entered, requires_of
from hubcli.publishing.joining import parsed
from hubcli.publishing.place import Base, Place
from hubcli.publishing.plan import plan_of, report_of

if TYPE_CHECKING:
    from hubcli.manifest import Resolved

Json = dict[str, Any]
TARGET = "target"


def publish_composition(
    expr: Expr,
    name: str,
    version: str,
    place: Place,
    workspace: Workspace,
    said: Json,
    dry_run: bool,
    say: Callable[[str], None],
    plan: Callable[[Json], None] | None,
) -> Json:
    """The report of a composition that was, or would be, entered into an index; `said` holds license, description, authors.

    Raises:
        HubcliError: as `hubcli.api.publish`.
    """
    base = place.base(name)
    if base.entry is not None:
        before = parsed(base.entry, name)
        said["description"] = said["description"] or before["description"]
        said["authors"] = said["authors"] or [author["name"] for author in before["authors"]]
    ranges = requires_of(place, base, name, version)
    expr = renamed(expr, lambda ref: f"{ref}@{ranges[ref]}" if ref in ranges else ref)
    found, own = _parts(expr, name, place, workspace)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    said["license"] = said["license"] or "none"
    draft = composed(expr, name, version, found, place=own, published=now, **said)
    publisher = _publisher(base, name, workspace)
    check_rights(base, name, publisher, place.where)
    foreseen = entered(place, draft, draft.release, publisher, dry_run=True, say=say)
    planned = plan_of(None, draft, None, place, foreseen, ())
    if plan is not None:
        plan(planned)
    if dry_run:
        return report_of(None, draft, None, place, None, planned)
    done = entered(place, draft, draft.release, publisher, dry_run=False, say=say)
    return report_of(None, draft, None, place, done, planned, dry_run=False)


def _parts(expr: Expr, name: str, place: Place, workspace: Workspace) -> tuple[dict[str, Resolved], str]:
    """Name → release of all that is named, from the index it goes to, else from the configured ones; that index's name."""
    from hubcli.index.catalog import Catalog
    from hubcli.resolver import Resolver

    config = workspace.config
    own = next((one.name for one in config.indexes if place.where in (one.url, str(one.folder))), None)
    catalogs = [*workspace.catalogs]
    if own is None:
        target = IndexConfig(TARGET, place.where)
        catalogs.insert(0, Catalog(target, refresh=True, offline=config.offline, tokens=config.tokens()))
    resolver = Resolver(catalogs)
    found = {ref.name: resolver.complete(resolver.resolve(ref)) for ref in map(required_ref, names(expr))}
    refuse_cycle(name, found)
    return found, own or TARGET


def _publisher(base: Base, name: str, workspace: Workspace) -> str | None:
    """Who publishes: of the accounts that the token is for the one that owns the group, else the first; None without a token."""
    from hubcli.publishing.repository import Hub

    hub = Hub(token=workspace.token, offline=workspace.offline)
    if base.owners is None or not hub.token or hub.offline:
        return None
    accounts: Sequence[str] = hub.accounts()
    owners, _ = read_owners(base.owners)
    group = name.partition("/")[0]
    owning = [account for account in accounts if owners is not None and owners.publishes(group, account)]
    return next(iter([*owning, *accounts]), None)
