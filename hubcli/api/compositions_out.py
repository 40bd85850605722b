"""Publishing a composition: an entry that names others, with no files and no repository of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hubcli.api.workspace import Workspace
from hubcli.composition import Expr
from hubcli.compositions import names, renamed
from hubcli.errors import PolicyError
from hubcli.index.compose import refuse_cycle, required_ref
from hubcli.index.owners import read_owners
from hubcli.manifest import Resolved
from hubcli.publishing import checks
from hubcli.publishing.composed import NO_LICENSE, composed, unlicensed
from hubcli.publishing.entering import check_rights, entered, requires_of
from hubcli.publishing.findings import raise_findings
from hubcli.publishing.joining import parsed
from hubcli.publishing.place import Base, Place
from hubcli.publishing.plan import plan_of, report_of

if TYPE_CHECKING:
    from hubcli.publishing.draft import Draft

Json = dict[str, Any]


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
    publisher = _publisher(base, name, workspace, place.where)
    check_rights(base, name, publisher, place.where)
    draft = _draft(expr, name, version, place, base, workspace, said)
    foreseen = entered(place, draft, draft.release, publisher, dry_run=True, say=say)
    planned = plan_of(None, draft, None, place, foreseen, ())
    if plan is not None:
        plan(planned)
    if dry_run:
        return report_of(None, draft, None, place, None, planned)
    done = entered(place, draft, draft.release, publisher, dry_run=False, say=say)
    return report_of(None, draft, None, place, done, planned, dry_run=False)


def _draft(expr: Expr, name: str, version: str, place: Place, base: Base, workspace: Workspace, said: Json) -> Draft:
    """The checked draft; what nobody said is as the entry says that is there."""
    from hubcli.api.draft_index import resolver_to

    if base.entry is not None:
        before = parsed(base.entry, name)
        said["description"] = said["description"] or before["description"]
        said["authors"] = said["authors"] or before["authors"]
        said["license"] = said["license"] or _license_before(before, version)
    known = base.names if base.entry is None else ()  # what is there was let in under its name
    raise_findings(name, checks.check_known(name, known))
    ranges = requires_of(place, base, name, version)
    expr = renamed(expr, lambda ref: f"{ref}@{ranges[ref]}" if ref in ranges else ref)
    resolver, own = resolver_to(place.where, workspace)
    found = {ref.name: resolver.complete(resolver.resolve(ref)) for ref in map(required_ref, names(expr))}
    refuse_cycle(name, found)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    licence = said["license"] or NO_LICENSE
    draft = composed(expr, name, version, found, place=own, published=now, **{**said, "license": licence})
    made = Resolved(name, version, name, draft.release, own, draft.kind)
    resolver.complete(made)  # refuses parts that no install could bring together
    return draft if said["license"] else replace(draft, notes=(*draft.notes, unlicensed(found)))


def _license_before(entry: Json, version: str) -> str:
    """The licence of this very release where it is there already, else of the newest."""
    bare, releases = version.partition("+")[0], entry["releases"]
    same = (release for release in releases if release["version"].partition("+")[0] == bare)
    return str(next(same, releases[-1])["license"])


def _publisher(base: Base, name: str, workspace: Workspace, where: str) -> str | None:
    """Who publishes: of the accounts that the token is for the one that owns the group, else the first; None without a token.

    Raises:
        PolicyError: E_OWNER, the group has owners, and who publishes is not known.
    """
    from hubcli.publishing.refused import LOG_IN
    from hubcli.publishing.repository import Hub

    if base.owners is None:
        return None
    hub = Hub(token=workspace.token, offline=workspace.offline)
    owners, _ = read_owners(base.owners)
    group = name.partition("/")[0]
    if not hub.token or hub.offline:
        if owners is not None and group in owners.groups:
            named = ", ".join(owners.groups[group])
            message = f"{where}: the group {group} is owned by {named}, and who publishes is not known"
            raise PolicyError(message, hint=f"unset {hub.offline}" if hub.offline else LOG_IN, id="E_OWNER")
        return None
    accounts: Sequence[str] = hub.accounts()
    owning = [account for account in accounts if owners is not None and owners.publishes(group, account)]
    return next(iter([*owning, *accounts]), None)
