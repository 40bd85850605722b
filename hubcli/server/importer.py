"""Bringing files in: a folder as a commit of a repo, and the plain repos of a served tree as commits on start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hubcli.errors import HubcliError, NotFoundError, PolicyError
from hubcli.server.faults import BadRequestFault
from hubcli.server.names import check_path, check_repo_id
from hubcli.server.objects import FileEntry, Settings, file_entry, timestamp
from hubcli.server.repos import MAIN, STATE, Repo, RepoStore

# A person's tools leave these beside the files; `.private` and `.gated` are the marks of a plain repo.
_LEFT_OUT = frozenset((".git", ".cache", ".DS_Store", STATE, ".private", ".gated"))


def import_folder(
    folder: Path,
    repo_id: str,
    source: Path,
    *,
    repo_type: str = "model",
    revision: str = MAIN,
    message: str | None = None,
    private: bool | None = None,
    gated: bool | None = None,
    tag: str | None = None,
    date: datetime | None = None,
) -> str:
    """Make `source`'s files the newest commit of a repo under the hub folder `folder`; returns the commit's id, 40 hex.

    The commit holds exactly the files of `source`. The same files again give the same commit, not a new one. `private`
    and `gated` None leave a repo as it is; a new one is then open. A link is followed only to a file inside `source`.

    Raises: BadRequestFault (a bad id, branch, tag or path), PolicyError (a link that leads out, a device),
    NotFoundError, ContentError (a file that changes meanwhile), DiskError.
    """
    check_repo_id(repo_id)
    source = Path(source)
    if not source.is_dir():
        raise NotFoundError(f"import {repo_id}: expected a folder, found {source}")
    store = RepoStore(Path(folder))
    files = take_in(store, source)
    now = timestamp(date)
    repo = store.create(Settings(repo_id, repo_type, now, "import", private=bool(private), gated=bool(gated)))
    repo.change_settings(private=private, gated=gated)
    title, _, description = (message or f"Import {repo_id}").partition("\n")
    commit = repo.add_commit(files, branch=revision, title=title, message=description.strip(), date=date)
    if tag is not None:
        repo.add_tag(tag, commit)
    return commit.id


def take_in(store: RepoStore, source: Path) -> dict[str, FileEntry]:
    """Store the bytes of every file below `source`; path → entry. A folder without files is an error."""
    files = {name: file_entry(name, *store.blobs.add(path)) for name, path in sorted(walk(source))}
    if not files:
        raise NotFoundError(f"{source}: expected files, found none")
    return files


def walk(source: Path) -> Iterator[tuple[str, Path]]:
    """Every file below a folder: its path in the repo and the real file. PolicyError for a link that leads out."""
    root = source.resolve()
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in _LEFT_OUT]
        for name in [*names, *(sub for sub in subfolders if (Path(folder) / sub).is_symlink())]:
            if name in _LEFT_OUT:
                continue
            path = Path(folder) / name
            real = path.resolve()
            if path.is_symlink() and (root not in real.parents or not real.is_file()):
                raise PolicyError(
                    f"{path}: expected a file of this folder, found a link to {real}",
                    hint="put a copy of the file there in place of the link",
                )
            yield check_path(path.relative_to(root).as_posix()), real


@dataclass(frozen=True, slots=True)
class Skipped:
    """A folder of the served tree that could not be served as it is now, and why."""

    path: Path
    error: HubcliError


def snapshot_plain(store: RepoStore) -> list[Skipped]:
    """Commit what changed in the plain repos: FOLDER/[models/]<org>/<name>/ and FOLDER/datasets/<org>/<name>/.

    One that can't be committed is skipped and keeps the commits it has.
    """
    skipped = []
    for repo_type, repo_id, path in _plain_repos(store.folder):
        try:
            _snapshot(store, repo_type, repo_id, path)
        except HubcliError as error:
            skipped.append(Skipped(path, error))
    return skipped


def _plain_repos(folder: Path) -> Iterator[tuple[str, str, Path]]:
    for top in _subfolders(folder):
        orgs = _subfolders(top) if top.name in ("models", "datasets") else [top]
        for org in orgs:
            for path in _subfolders(org):
                yield "dataset" if top.name == "datasets" else "model", f"{org.name}/{path.name}", path


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _snapshot(store: RepoStore, repo_type: str, repo_id: str, path: Path) -> Repo:
    check_repo_id(repo_id)
    if path.resolve() != store.folder.resolve() / path.relative_to(store.folder):
        raise PolicyError(f"{path}: expected a folder of the served tree, found a link to {path.resolve()}")
    files = take_in(store, path)
    private, gated = ((path / mark).exists() for mark in (".private", ".gated"))
    repo = store.create(Settings(repo_id, repo_type, timestamp(), "plain", private=private, gated=gated))
    if repo.settings.origin != "plain":
        raise BadRequestFault(
            f"{path}: {repo_id} was imported into this hub, so its folder is not followed",
            hint="rename the folder, or import it under this id",
        )
    # A mark only closes a repo: taking it away must not open one that repo.json was told to close.
    repo.change_settings(private=private or None, gated=gated or None)
    repo.add_commit(files, title=f"Snapshot of {repo_id}", author="hub serve")
    return repo
