"""Bringing files in: a folder as a commit of a repo, and the plain repos of a served tree as commits on start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hubcli.errors import DiskError, HubcliError, NotFoundError, PolicyError
from hubcli.server.faults import BadRequestFault
from hubcli.server.names import check_path, check_repo_id
from hubcli.server.objects import FileEntry, Settings, file_entry, timestamp
from hubcli.server.repo import MAIN, Repo
from hubcli.server.repos import STATE, RepoStore

# A person's tools leave these beside the files; `.private` and `.gated` are the marks of a plain repo.
_LEFT_OUT = frozenset((".git", ".cache", ".DS_Store", STATE, ".private", ".gated"))
_LEFT_OUT_LOWER = frozenset(name.lower() for name in _LEFT_OUT)


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
    and `gated` None leave a repo as it is; a new one is then open. A link is followed only to a file inside `source`
    that is not left out itself.

    Raises: BadRequestFault (a bad id, branch, tag or path), PolicyError (a link that leads elsewhere, a device),
    NotFoundError, ContentError (a file that changes meanwhile), DiskError.
    """
    check_repo_id(repo_id)
    source = Path(source)
    if not source.is_dir():
        raise NotFoundError(f"import {repo_id}: expected a folder, found {source}")
    store = RepoStore(Path(folder))
    private = _marked(source, ".private") if private is None else private
    gated = _marked(source, ".gated") if gated is None else gated
    files = take_in(store, source)
    now = timestamp(date)
    repo = store.create(Settings(repo_id, repo_type, now, "import", private=bool(private), gated=bool(gated)))
    repo.change_settings(private=private, gated=gated)
    title, _, description = (message or f"Import {repo_id}").partition("\n")
    commit = repo.add_commit(files, branch=revision, title=title, message=description.strip(), date=date)
    if tag is not None:
        repo.add_tag(tag, commit)
    return commit.id


def _marked(source: Path, mark: str) -> bool | None:
    # A mark only closes a repo: where there is none, the repo stays as it is, for it may have been closed otherwise.
    return True if os.path.lexists(source / mark) else None


def take_in(store: RepoStore, source: Path) -> dict[str, FileEntry]:
    """Store the bytes of every file below `source`; path → entry. A folder without files is an error."""
    files = {name: file_entry(name, *store.blobs.add(path)) for name, path in sorted(walk(source))}
    if not files:
        raise NotFoundError(f"{source}: expected files, found none")
    for name, entry in files.items():
        # reading all of it may have taken longer than a blob is kept that no commit names
        if not store.blobs.claim(entry.sha256, entry.size):
            raise DiskError(f"can't keep {name} of {source}: its bytes are gone again", hint="import it again")
    return files


def walk(source: Path) -> Iterator[tuple[str, Path]]:
    """Every file below a folder: its path in the repo and the real file. PolicyError for a link that leads elsewhere."""
    root = source.resolve()
    for folder, subfolders, names in os.walk(root, onerror=_unreadable):
        subfolders[:] = [name for name in subfolders if name not in _LEFT_OUT]
        links = [name for name in subfolders if (Path(folder) / name).is_symlink()]
        for name in (*names, *links):
            if name not in _LEFT_OUT:
                path = Path(folder) / name
                yield check_path(path.relative_to(root).as_posix()), _real_file(root, path)


def _unreadable(error: OSError) -> None:
    # os.walk would leave such a folder out, and half a repo would look like a whole one
    raise DiskError(f"can't read {error.filename}: {error.strerror}") from error


def _real_file(root: Path, path: Path) -> Path:
    if not path.is_symlink():
        return path
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        real = Path()
    if root not in real.parents or not real.is_file():
        raise PolicyError(
            f"{path}: expected a file of this folder, found a link that leads elsewhere",
            hint=_COPY,
        )
    inside = real.relative_to(root)
    # a link spells the name as it likes, and some disks ignore case
    if any(part.lower() in _LEFT_OUT_LOWER for part in inside.parts):
        raise PolicyError(f"{path}: expected a file that is published itself, found a link to {inside}", hint=_COPY)
    return real


_COPY = "put a copy of the file in place of the link"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A folder of the served tree that could not be served as it is now, and why."""

    path: Path
    error: HubcliError


def snapshot_plain(store: RepoStore) -> list[Skipped]:
    """Commit what changed in the plain repos: FOLDER/[models/]<org>/<name>/ and FOLDER/datasets/<org>/<name>/.

    One that can't be committed is skipped and keeps the commits it has.
    """
    skipped: list[Skipped] = []
    for top in _subfolders(store.folder, skipped):
        for org in _subfolders(top, skipped) if top.name in ("models", "datasets") else [top]:
            for path in _subfolders(org, skipped):
                try:
                    _snapshot(store, "dataset" if top.name == "datasets" else "model", path)
                except HubcliError as error:
                    skipped.append(Skipped(path, error))
    return skipped


def _subfolders(folder: Path, skipped: list[Skipped]) -> list[Path]:
    """The folders in a folder above the repos; a file there is in no repo, which its owner may not know."""
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        folders = [path for path in entries if path.is_dir()]
    except OSError as error:
        skipped.append(Skipped(folder, DiskError(f"can't read {folder}: {error.strerror}")))
        return []
    if stray := next((path for path in entries if path not in folders), None):
        hint = "put it in a folder <org>/<name>/"
        skipped.append(Skipped(stray, BadRequestFault(f"{stray}: a file outside of any repo", hint=hint)))
    return folders


def _snapshot(store: RepoStore, repo_type: str, path: Path) -> None:
    repo_id = check_repo_id(f"{path.parent.name}/{path.name}")
    if path.resolve() != store.folder.resolve() / path.relative_to(store.folder):
        raise PolicyError(f"{path}: expected a folder of the served tree, found a link to {path.resolve()}")
    private, gated = _marked(path, ".private"), _marked(path, ".gated")
    there = Repo(store, store.path_of(repo_type, repo_id))
    # a repo that was moved away from this id is another one
    if there.id == repo_id:
        # before anything can fail: what is served of it already must be closed all the same
        _following(there, path).change_settings(private=private, gated=gated)
    files = take_in(store, path)
    repo = store.create(Settings(repo_id, repo_type, timestamp(), "plain", private=bool(private), gated=bool(gated)))
    # reading the files takes long, and another server may have taken a push of this id meanwhile
    _following(repo, path).add_commit(files, title=f"Snapshot of {repo_id}", author="hub serve")


def _following(repo: Repo, path: Path) -> Repo:
    """The repo, if it follows its folder; once it does, it goes on."""
    if repo.settings.origin != "plain":
        raise BadRequestFault(
            f"{path}: {repo.id} was imported into this hub, so its folder is not followed",
            hint="rename the folder, or import it under this id",
        )
    return repo
