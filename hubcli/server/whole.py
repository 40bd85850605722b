"""Making, moving and deleting repos in the storage. Knows nothing of HTTP.

Each has one step that decides: a repo is there once its `repo.json` is, under another id once its folder is renamed, and
gone once its folder is in the trash. A kill before that step changes nothing, and one after it loses nothing.
"""

from __future__ import annotations

import secrets
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from hubcli.server.crash import reach
from hubcli.server.disk import disk_errors, sync_folder, write_document
from hubcli.server.faults import RepoExists, RepoMissing
from hubcli.server.objects import LFS_SUFFIXES, FileEntry, Settings, file_entry
from hubcli.server.repo import MAIN, Repo, Words
from hubcli.server.repos import RepoStore
from hubcli.server.uploads import Incoming, trash

ATTRIBUTES = ".gitattributes"


def create(store: RepoStore, settings: Settings, author: str) -> Repo:
    """A new repo whose first commit has a .gitattributes, as the Hugging Face Hub makes one; RepoExists if it is there."""
    repo = Repo(store, store.path_of(settings.type, settings.id))
    with repo.locked(new=True):
        if there := repo.id:
            raise RepoExists(
                f"You already created this {settings.type} repo: {there}", repo_type=settings.type, repo=there
            )
        reach("before-create")
        files = {ATTRIBUTES: _attributes(store)}
        repo.commit_to(MAIN, lambda _: files, Words("initial commit", author=author))
        store.claim(settings)
        reach("after-create")
    return repo


def _attributes(store: RepoStore) -> FileEntry:
    text = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()
    with Incoming(store, ATTRIBUTES, len(text)) as file:
        file.write(text)
        entry = file_entry(ATTRIBUTES, file.size, file.sha256, file.git_oid())
        file.keep()
    return entry


def delete(repo: Repo) -> None:
    """Take a repo away with all its commits; the contents of its files stay in the blobs, where others may have them."""
    with repo.changing():
        # a repo that was moved away from this id must not come to light under it
        repo.store.lead(repo.settings.type, repo.id, None)
        reach("before-delete")
        gone = _to_trash(repo.store, repo.path)
        reach("after-delete")
    shutil.rmtree(gone, ignore_errors=True)


def move(repo: Repo, to_id: str) -> Settings:
    """Give a repo another id, under which no other repo is (else RepoExists). The old id goes on leading to it."""
    store, repo_type = repo.store, repo.settings.type
    target = Repo(store, store.path_of(repo_type, to_id))
    if target.path == repo.path:
        raise _taken(repo_type, to_id)
    with ExitStack() as locks:
        # always in the same order: two moves that cross would wait for each other
        for one in sorted((repo, target), key=lambda one: one.path):
            locks.enter_context(one.locked(new=one is target))
        repo.check_changeable()
        if target.id:
            raise _taken(repo_type, to_id)
        old = repo.settings
        if store.path_of(repo_type, old.id) != repo.path:
            raise RepoMissing(f"the disk has {old.id} in the place of the repo to move")
        _rename(repo, target, old, to_id)
    return replace(old, id=to_id)


def _taken(repo_type: str, repo_id: str) -> RepoExists:
    return RepoExists(f"the {repo_type} repo {repo_id} exists already", repo_type=repo_type, repo=repo_id)


def _rename(repo: Repo, target: Repo, old: Settings, to_id: str) -> None:
    store = repo.store
    store.lead_past(old.type, to_id)
    write_document(repo.path / "repo.json", replace(old, moving_to=to_id).to_json())
    store.lead(old.type, old.id, to_id)
    leftover = _to_trash(store, target.path)
    reach("before-move")
    with disk_errors(str(target.path)):
        repo.path.rename(target.path)
        sync_folder(target.path.parent)
    reach("after-move")
    write_document(target.path / "repo.json", replace(old, id=to_id, moving_to="").to_json())
    store.lead(old.type, to_id, None)
    shutil.rmtree(leftover, ignore_errors=True)


def _to_trash(store: RepoStore, path: Path) -> Path:
    gone = trash(store) / secrets.token_hex(16)
    with disk_errors(str(path)):
        gone.parent.mkdir(parents=True, exist_ok=True)
        path.rename(gone)
        sync_folder(path.parent)
    return gone
