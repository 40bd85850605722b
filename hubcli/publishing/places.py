"""Which index a release goes to: the one that was named, or the one configured that can be written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hubcli.config import BUNDLED, IndexConfig
from hubcli.errors import NotFoundError, UsageError
from hubcli.publishing.into_folder import IntoFolder
from hubcli.publishing.into_git import IntoGit
from hubcli.publishing.into_hub import IntoHub
from hubcli.publishing.place import Place
from hubcli.publishing.repository import Repository

ON_HUB = ("hf:datasets/", "hf://datasets/")
KINDS = "a folder, the name of a configured index, or hf:datasets/ORG/NAME"


def place_of(
    index: str | Path | None, configured: Sequence[IndexConfig], *, token: str | None, offline: str | None
) -> Place:
    """The index to write to.

    Args:
        index: a folder, the name of a configured index, or hf:datasets/ORG/NAME; None takes the one that can be written.
        token: as for `Repository`. offline: the switch that turns the network off.

    Raises:
        UsageError: it can't be written, or there is not exactly one that can.
        NotFoundError: there is no such folder or index.
    """
    if index is None:
        return _opened(_only(configured).url, token, offline)
    text = str(index)
    named = next((one for one in configured if one.name == text), None) if isinstance(index, str) else None
    return _opened(named.url if named is not None else text, token, offline)


def _opened(url: str, token: str | None, offline: str | None) -> Place:
    if url.startswith(ON_HUB):
        name = url[len(next(start for start in ON_HUB if url.startswith(start))) :].rstrip("/")
        return IntoHub(Repository(name, type="dataset", token=token, offline=offline))
    if url == BUNDLED or ("://" in url and not url.startswith("file://")):
        what = "the bundled index" if url == BUNDLED else url
        raise UsageError(f"{what} can only be read; expected {KINDS}")
    folder = IndexConfig("given", url).folder or Path(url)
    folder = folder.expanduser().absolute()
    if not folder.is_dir():
        hint = f"mkdir {url} for a new index; an index is {KINDS}"
        raise NotFoundError(f"the index folder {folder} does not exist", hint=hint)
    return IntoGit.of(folder) or IntoFolder(folder)


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
    if index.url.startswith(ON_HUB):
        return True
    return index.folder is not None and index.folder.is_dir() and os.access(index.folder, os.W_OK)
