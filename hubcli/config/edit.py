"""Changing the user's own settings: written whole, and put in place by a rename."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hubcli import toml_file
from hubcli.config import values
from hubcli.config.load import read_toml, user_config_file
from hubcli.config.model import BUNDLED, IndexConfig, no_index
from hubcli.errors import UsageError


def add_index(
    name: str,
    url: str,
    *,
    token_env: str | None = None,
    scopes: Sequence[str] = (),
    first: bool = False,
    dry_run: bool = False,
) -> IndexConfig:
    """Write an index to the user's config: last of the list, or first. The same again changes at most its place.

    `add_index("bundled", "bundled")` undoes `remove_index("bundled")`. `dry_run` checks everything and writes nothing.

    Raises:
        UsageError: E_CONFIG, a name, URL or scope that can't be; or the name is there with another URL, scope or token.
        DiskError: the config can't be written.
    """
    if name == BUNDLED:
        return _put_bundled_back(url, plain=not (token_env or scopes), first=first, dry_run=dry_run)
    file = user_config_file()
    document = read_toml(file)
    value: dict[str, Any] = {"url": url, "token-env": token_env, "scopes": list(scopes)}
    index = values.index(name, {k: v for k, v in value.items() if v}, "command line", Path.cwd(), "user")
    _refuse_unknown_scheme(index)
    known = {other.name: other for other in values.indexes(document, file, "user")}
    if name in known:
        _refuse_other(known[name], index)
    table = {key: item for key, item in document.get("indexes", {}).items() if key != name or not first}
    entry = {name: _to_toml(index)}
    document["indexes"] = {**entry, **table} if first else {**table, **entry}
    if not dry_run:
        _write(file, document)
    return index


def _refuse_other(there: IndexConfig, index: IndexConfig) -> None:
    """A name that is there keeps its URL, and the scopes and token that protect what comes from it."""
    hint = f"take it off the list first: hubcli index remove {there.name}"
    if there.url != index.url:
        raise UsageError(f"index '{there.name}' stands for {there.url} already", hint=hint, id="E_CONFIG")
    for what, old, new in (
        ("scopes", ", ".join(there.scopes) or "none", ", ".join(index.scopes) or "none"),
        ("token variable", there.token_env or "none", index.token_env or "none"),
    ):
        if old != new:
            message = f"index '{there.name}' is there already with other {what}: {old}, not {new}"
            raise UsageError(message, hint=hint, id="E_CONFIG")


def _put_bundled_back(url: str, *, plain: bool, first: bool, dry_run: bool) -> IndexConfig:
    """The bundled index in its own place, the last, or before all others."""
    if url != BUNDLED or not plain:
        raise values.fault("command line", f"indexes.{BUNDLED}", f"{BUNDLED} and neither token nor scopes", url)
    file = user_config_file()
    document = read_toml(file)
    table = {key: item for key, item in document.get("indexes", {}).items() if key != BUNDLED}
    document["indexes"] = {BUNDLED: True, **table} if first else table
    if not dry_run:
        _write(file, document)
    return IndexConfig(BUNDLED, BUNDLED)


def _refuse_unknown_scheme(index: IndexConfig) -> None:
    """Stop at a URL that neither this package nor an `index-…` plugin, by its name, reads; no plugin is imported."""
    scheme, separator, _ = index.url.partition("://")
    if not separator or scheme in ("file", "http", "https"):
        return
    from hubcli.plugins import plugins

    brought = [plugin.provides for plugin in plugins().of_kind("index")]
    if scheme not in brought:
        kinds = ", ".join(
            ["a folder", "hf:datasets/ORG/NAME", *(f"{k}://" for k in ("file", "http", "https", *brought))]
        )
        raise values.fault("command line", f"indexes.{index.name}", kinds, index.url)


def remove_index(name: str, *, dry_run: bool = False) -> None:
    """Take an index off the user's config; the bundled one is switched off. `dry_run` writes nothing.

    Raises:
        NotFoundError: the user's config has no such index.
    """
    file = user_config_file()
    document = read_toml(file)
    table = dict(document.get("indexes", {}))
    if name == BUNDLED:
        table[BUNDLED] = False
    elif table.pop(name, None) is None:
        there = [key for key in table if key != BUNDLED]
        raise no_index(name, there if table.get(BUNDLED, True) is False else [*there, BUNDLED])
    document["indexes"] = table
    if not dry_run:
        _write(file, document)


def _write(file: Path, document: Mapping[str, Any]) -> None:
    import tomli_w

    toml_file.write(file, tomli_w.dumps(document))


def _to_toml(index: IndexConfig) -> Any:
    table: dict[str, Any] = {"url": index.url}
    if index.token_env:
        table["token-env"] = index.token_env
    if index.scopes:
        table["scopes"] = list(index.scopes)
    return table if len(table) > 1 else index.url
