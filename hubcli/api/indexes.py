"""index list, add, remove, update, check, build, compose."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli import config as settings
from hubcli.api.workspace import Warn, Workspace
from hubcli.composition import Expr
from hubcli.errors import HubcliError, NotFoundError, UsageError
from hubcli.index.catalog import Catalog, unset_told, unset_variable
from hubcli.resolver import Resolver

if TYPE_CHECKING:
    from hubcli.index.state import State

Json = dict[str, Any]


def index_list(*, offline: bool | None = None) -> Json:
    """The indexes in the order in which they are asked (schemas/cli/index-list); counts of those read on this machine."""
    workspace = Workspace(offline=offline)
    rows = zip(workspace.config.indexes, workspace.catalogs, strict=True)
    return {"indexes": [_row(index, catalog) for index, catalog in rows]}


def _row(index: settings.IndexConfig, catalog: Catalog) -> Json:
    try:
        return {**_place(index), **_seen(catalog)}
    except HubcliError:
        return {**_place(index), "entries": None, "snapshot": None}


def _seen(catalog: Catalog) -> Json:
    """What this machine has of an index; nothing where it was never fetched."""
    view = catalog.local_view
    if view is None:
        return {"entries": None, "snapshot": None}
    return {"entries": len(view), "snapshot": catalog.snapshot_sha256}


def _place(index: settings.IndexConfig) -> Json:
    return {"name": index.name, "url": index.url, "scopes": [*index.scopes], "token_env": index.token_env}


def index_add(
    name: str,
    url: str,
    *,
    token_env: str | None = None,
    scopes: Sequence[str] = (),
    first: bool = False,
    unseen: bool = False,
    dry_run: bool = False,
    offline: bool | None = None,
    warn: Warn | None = None,
) -> Json:
    """Write an index that can be read into the user's configuration (schemas/cli/index-add).

    The same again is no error. `unseen` writes it without a look at it; without a network there is none either, and
    `warn` is told so.

    Raises:
        UsageError: E_CONFIG, a name, URL, scope or variable that can't be; or the name is there with another URL, scope or
            token.
        NotFoundError, NetworkError, EntryError: there is no index, or it can't be read; nothing is written.
        DiskError: the configuration can't be written.
    """
    options: Json = {"token_env": token_env, "scopes": scopes, "first": first}
    index = settings.add_index(name, url, **options, dry_run=True)
    workspace = Workspace(offline=offline, warn=warn)
    if not unseen:
        _refuse_unreadable(index, workspace)
        _refuse_no_index(index, workspace)
    if unset := unset_variable(index):
        workspace.warn(unset)
    if not dry_run:
        settings.add_index(name, url, **options)
    return {**_place(index), "config": str(settings.user_config_file())}


def _refuse_unreadable(index: settings.IndexConfig, workspace: Workspace) -> None:
    """Ask the source for its state once: an index that can't be read would stop every command that asks it."""
    from hubcli.index.catalog import open_source
    from hubcli.paths import home

    bound = os.environ.get(index.token_env or "")
    if workspace.offline and index.folder is None and index.url != settings.BUNDLED:
        workspace.warn(f"{index.url} was not looked at: the network is off ({workspace.offline})")
        return
    own = {settings.origin_of(index.url): bound} if bound and index.url.startswith(("http://", "https://")) else {}
    folder = home() / "indexes" / index.name
    try:
        with unset_told(index):
            open_source(index, {**workspace.config.tokens(), **own}, workspace.offline, folder).changed("")
    except NotFoundError as error:
        hint = unset_variable(index) or (
            "name a folder that is there" if index.folder else "is the address right, and the repository not private?"
        )
        raise NotFoundError(f"index '{index.name}' is not added: {error.message}", hint=hint, id=error.id) from error


def _refuse_no_index(index: settings.IndexConfig, workspace: Workspace) -> None:
    """Stop at a folder of something else, an adapter's for one; one that holds nothing yet may become an index."""
    from hubcli.index.sources import META, STATIC, entry_files, read_entries

    folder = index.folder
    if folder is None or any((folder / name).exists() for name in (META, STATIC)):
        return
    files = [*entry_files(folder)]
    if any(b'"releases"' in raw for _, raw in read_entries(files)):
        return
    found = f"{folder} holds no entry (GROUP/NAME.json) and no {META}"
    if files:
        hint = "an adapter's folder is named as it is: hubcli run ./FOLDER; --unseen adds it all the same"
        raise UsageError(f"index '{index.name}' is not added: {found}", hint=hint, id="E_CONFIG")
    workspace.warn(f"{found}: index '{index.name}' is empty")


def index_remove(name: str, *, dry_run: bool = False) -> Json:
    """Take an index out of the user's configuration (schemas/cli/index-remove).

    Raises:
        NotFoundError: there is no such index.
    """
    settings.remove_index(name, dry_run=dry_run)
    return {"name": name, "config": str(settings.user_config_file())}


def index_update(*names: str, offline: bool | None = None, dry_run: bool = False, warn: Warn | None = None) -> Json:
    """Ask each index for news and fetch what is new (schemas/cli/index-update). `dry_run` asks nothing.

    Raises:
        NotFoundError: no index of that name.
        NetworkError, NotFoundError, EntryError: an index does not answer, or is damaged; the others are updated first, and
            `warn` is told of further ones.
    """
    workspace = Workspace(offline=offline, warn=warn)
    known = {catalog.name: catalog for catalog in workspace.catalogs}
    for name in names:
        if name not in known:
            raise settings.no_index(name, known)
    rows, done, failed = [], [], []
    for catalog in (known[name] for name in names or known):
        try:
            changed = False if dry_run else catalog.update()
            rows.append({"name": catalog.name, "changed": changed, **_seen(catalog)})
            done.append(catalog)
        except HubcliError as error:
            failed.append(_named(error, catalog.config))
    for fault in () if dry_run else Resolver(done).faults():
        workspace.warn(f"entry left out: {fault}")
    for other in failed[1:]:
        workspace.warn(other.message)
    if failed:
        raise failed[0]
    return {"indexes": rows}


def _named(error: HubcliError, index: settings.IndexConfig) -> HubcliError:
    """The error of an index that can't be updated, which says which it is and how to do without it."""
    remove = f"hubcli index remove {index.name}" if index.origin == "user" else f"it stands in: {index.origin}"
    hints = [error.hint] if remove in (error.hint or "") else [error.hint, f"to do without it: {remove}"]
    message = f"index '{index.name}' is not updated: {error.message}"
    return type(error)(message, cause=error.cause, hint="; ".join(filter(None, hints)), id=error.id)


def index_check(folder: str | Path, *, against: str | Path | None = None, by: str | None = None) -> Json:
    """Every fault of every entry of an index folder (schemas/cli/index-check).

    Args:
        folder: the index folder.
        against: an older state of it, from which what is published must not have changed: a revision of the git checkout that
            holds the folder (`origin/main`), or another folder (a `Path`, or text that starts with `.`, `~` or `/`; outside of
            a checkout any text).
        by: who proposes what is other than in `against`, to be held against the owners that `_owners.json` names there.

    Raises:
        NotFoundError: no such folder or revision.
        UsageError: git can't read the checkout; `by` without `against`.
    """
    from hubcli.index.check import check_folder

    report = check_folder(Path(folder), against=None if against is None else _older(Path(folder), against), by=by)
    rows = [
        {"id": fault.id, "file": file, "field": fault.field, "expected": fault.expected, "found": fault.found}
        for file, fault in report.faults
    ]
    notes = [ascii(note)[1:-1] for note in report.notes]
    return {"ok": not rows, "entries": report.entries, "ownership": report.ownership, "faults": rows, "notes": notes}


def _older(folder: Path, against: str | Path) -> State:
    """The state to compare with. In a checkout a bare word is a revision and never a folder, which a proposal could bring."""
    from hubcli.index.git import in_checkout, revision_state
    from hubcli.index.state import folder_state

    path = Path(against)
    named = isinstance(against, Path) or path.is_absolute() or against.startswith((".", "~"))
    return folder_state(path.expanduser()) if named or not in_checkout(folder) else revision_state(folder, str(against))


def index_build(
    folder: str | Path,
    out: str | Path,
    *,
    hub_endpoint: str | None = None,
    name: str | None = None,
    dry_run: bool = False,
) -> Json:
    """Build a static site from an index folder (schemas/cli/index-build); the same input gives the same bytes.

    Raises:
        UsageError: `out` lies in the index folder, where its files would be read as entries.
        EntryError: the folder has faulty entries; nothing is written.
        DiskError: `out` can't be written.
    """
    from hubcli.index.build import build_site

    if Path(out).resolve().is_relative_to(Path(folder).resolve()):
        hint = "a folder beside it: --out ../site, if that is where you are"
        raise UsageError(f"--out: expected a folder outside of the index {folder}, found {out}", hint=hint)
    built = build_site(Path(folder), Path(out), name=name, endpoint=hub_endpoint, dry_run=dry_run)
    return {"out": str(out), "entries": built.entries, "snapshot": built.snapshot_sha256, "files": built.files}


def index_compose(
    expr: str | Expr,
    out: str | Path,
    *,
    name: str,
    version: str,
    description: str | None = None,
    authors: Sequence[str] = (),
    license: str = "none",
    dry_run: bool = False,
    offline: bool | None = None,
    warn: Warn | None = None,
) -> Json:
    """Save a composition as an entry of an index folder (schemas/cli/index-compose), or as one more release of an entry.

    Args:
        expr: a block of names, or its text form. What `requires` says of a name is the range it has (`a/b@~1.2`), else `^`
            of the version that `out` offers now, or, where it has not the name, the configured indexes.
        out: the index folder; `<out>/<name>.json` is written.
        name: `group/name` of the entry.
        description: one line, needed for a new entry.
        authors: needed for a new entry.
        license: of the composition itself; its parts keep their own.

    Raises:
        UsageError: the expression is no composition of names of indexes.
        EntryError: E_IMMUTABLE, the version is there already; or what is written would break a rule.
        NotFoundError, BaseMismatchError: a name that no index has, or parts for different bases.
    """
    from datetime import UTC, datetime

    from hubcli.api.draft_index import resolver_to
    from hubcli.composition import parse
    from hubcli.compositions import names
    from hubcli.index.compose import add_release, compose, refuse_cycle, required_ref

    tree = parse(expr) if isinstance(expr, str) else expr
    workspace = Workspace(offline=offline, warn=warn)
    if Path(out).is_dir():
        workspace.resolver, _ = resolver_to(str(Path(out).absolute()), workspace)
    found = {ref.name: workspace.resolve(ref) for ref in map(required_ref, names(tree))}
    published = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    release = compose(tree, name, version, found, license=license, published=published)
    refuse_cycle(name, found)
    file = add_release(Path(out), name, release, description=description, authors=[*authors], dry_run=dry_run)
    row = {"name": name, "version": version, "file": str(file), "expression": release.expression}
    return {**row, "requires": release.requires, "base": release.base.id if release.base else None}
