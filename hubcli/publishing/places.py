"""Which index a release goes to: the one that was named, or the one configured that can be written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hubcli.config import BUNDLED, IndexConfig, hub_index
from hubcli.errors import NotFoundError, UsageError
from hubcli.index.owners import PERSON
from hubcli.paths import expanded, is_there
from hubcli.publishing.into_folder import IntoFolder
from hubcli.publishing.into_git import IntoGit
from hubcli.publishing.into_hub import IntoHub
from hubcli.publishing.place import Place
from hubcli.publishing.repository import MAIN, Repository

KINDS = "a folder, the name of a configured index, or hf:datasets/ORG/NAME"


def place_of(
    index: str | Path | None,
    configured: Sequence[IndexConfig],
    *,
    token: str | None,
    offline: str | None,
    by: str | None = None,
) -> Place:
    """The index to write to.

    Args:
        index: a folder, the name of a configured index, or hf:datasets/ORG/NAME; None takes the one that can be written.
        token: as for `Repository`. offline: the switch that turns the network off.
        by: who proposes, where a person says so.

    Raises:
        UsageError: it can't be written, or there is not exactly one that can; or `by` is no name of an account.
        NotFoundError: there is no such folder or index.
    """
    if by is not None and not PERSON.match(by):
        raise UsageError(f"--by: expected an account's name, found {by!a}")
    text = str(index)
    named = _only(configured) if index is None else next((one for one in configured if one.name == text), None)
    if named is None or isinstance(index, Path):
        return _opened(text, token, offline, by)
    bound = os.environ.get(named.token_env) if named.token_env else None
    return _opened(named.url, bound or token, offline, by)


def _opened(url: str, token: str | None, offline: str | None, by: str | None) -> Place:
    on_hub = hub_index(url)
    if on_hub is not None:
        name, revision = on_hub
        if revision != MAIN:
            raise UsageError(f"{url} is read at {revision}, and written on {MAIN} alone", hint=f"hf:datasets/{name}")
        return IntoHub(Repository(name, type="dataset", token=token, offline=offline), by)
    if url.startswith("hf:"):
        raise UsageError(f"{ascii(url)[1:-1]} is no index; expected {KINDS}")
    if url == BUNDLED or ("://" in url and not url.startswith("file://")):
        what = "the bundled index" if url == BUNDLED else url
        raise UsageError(f"{what} can only be read; expected {KINDS}")
    folder = IndexConfig("given", url).folder or Path(url)
    folder = expanded(folder).absolute()
    if not (is_there(folder) and folder.is_dir()):
        hint = f"mkdir {url} for a new index; an index is {KINDS}"
        raise NotFoundError(f"the index folder {folder} does not exist", hint=hint)
    return IntoGit.of(folder, by) or IntoFolder(folder, by)


def _only(configured: Sequence[IndexConfig]) -> IndexConfig:
    """The one configured index that can be written."""
    able = [one for one in configured if _is_writable(one)]
    if len(able) == 1:
        return able[0]
    listed = ", ".join(f"{one.name} ({one.url})" for one in (able or configured)) or "none"
    said = "several configured indexes can be written" if able else "no configured index can be written"
    hint = "name one: --index NAME" if able else f"--index with {KINDS}; or --no-index to push alone"
    raise UsageError(f"{said}: {listed}", hint=hint)


def _is_writable(index: IndexConfig) -> bool:
    if hub_index(index.url) is not None:
        return True
    return index.folder is not None and index.folder.is_dir() and os.access(index.folder, os.W_OK)
