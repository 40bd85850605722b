"""Changing a repo in the storage: commits onto branches and pull requests, branches, tags. Knows nothing of HTTP.

Whatever depends on how the repo is now is decided under its lock.
"""

from __future__ import annotations

from dataclasses import replace

from hubcli.server import pulls
from hubcli.server.faults import BadRequestFault, Conflict, Moved, RevisionMissing, WriteDenied
from hubcli.server.names import check_ref_name, is_commit_id
from hubcli.server.objects import Commit
from hubcli.server.repo import MAIN, Edit, Repo, Words


def commit_edit(repo: Repo, revision: str, edit: Edit, words: Words) -> Commit:
    """Make what `edit` makes of them the newest files of a branch or of `refs/pr/<number>`; returns their commit.

    `edit` is called under the lock, and may raise to refuse. Files as they were give the commit there is. Raises
    RevisionMissing for a branch that is not there.
    """
    with repo.changing():
        if revision.startswith("refs/pr/"):
            return pulls.commit_to(repo, revision, edit, words)
        return repo.commit_to(branch_of(repo, revision), edit, words)


def newest(repo: Repo, revision: str) -> Commit | None:
    """The commit that one onto this revision would come after; raises what `commit_edit` would."""
    if revision.startswith("refs/pr/"):
        return repo.commit(str(pulls.live_pull(repo, revision).head))
    head = repo.refs().branches.get(branch_of(repo, revision))
    return repo.commit(head) if head else None


def branch_of(repo: Repo, revision: str) -> str:
    """The branch that a revision names and that a commit may go to; main in a repo without commits."""
    branch = revision.removeprefix("refs/heads/")
    refs = repo.refs()
    if is_commit_id(branch) or check_ref_name(branch) in refs.tags:
        raise BadRequestFault(f"{repo.id}: a commit goes to a branch or a pull request, and {revision!r} is neither")
    if branch not in refs.branches and (refs.branches or branch != MAIN):
        raise RevisionMissing(f"{repo.id} has no branch {branch!r}; make it first")
    return branch


def check_parent(revision: str, head: Commit | None, parent: str | None) -> None:
    """Moved if a commit says it comes after another one than the newest."""
    if parent is not None and (head is None or head.id != parent):
        found = head.id if head else "no commit"
        raise Moved(
            f"A commit has happened since. Please refresh and try again. {revision}: expected {parent}, found {found}"
        )


def add_branch(repo: Repo, name: str, start: str | None) -> None:
    """A new branch at a revision, main's newest commit if None; Conflict if the name is taken."""
    check_ref_name(name)
    with repo.changing():
        refs = repo.refs()
        if name in refs.branches or name in refs.tags:
            raise Conflict(f"{repo.id}: the reference {name!r} exists already")
        repo.write_refs(replace(refs, branches={**refs.branches, name: repo.resolve(start or MAIN).id}))


def drop_branch(repo: Repo, name: str) -> None:
    """Remove a branch; its commits stay. Main stays."""
    if name == MAIN:
        raise WriteDenied(f"{repo.id}: main can't be deleted")
    with repo.changing():
        refs = repo.refs()
        if name not in refs.branches:
            raise RevisionMissing(f"{repo.id} has no branch {name!r}")
        repo.write_refs(replace(refs, branches={one: at for one, at in refs.branches.items() if one != name}))


def add_tag(repo: Repo, name: str, revision: str, message: str) -> None:
    """Name a commit; Conflict if the name is taken, also by the same commit."""
    check_ref_name(name)
    with repo.changing():
        refs, commit = repo.refs(), repo.resolve(revision)
        if name in refs.tags or name in refs.branches:
            raise Conflict(f"{repo.id}: the reference {name!r} exists already")
        messages = {**refs.tag_messages, **({name: message} if message else {})}
        repo.write_refs(replace(refs, tags={**refs.tags, name: commit.id}, tag_messages=messages))


def drop_tag(repo: Repo, name: str) -> None:
    """Remove a tag; its commit stays."""
    with repo.changing():
        refs = repo.refs()
        if name not in refs.tags:
            raise RevisionMissing(f"{repo.id} has no tag {name!r}")
        tags, messages = dict(refs.tags), dict(refs.tag_messages)
        del tags[name]
        messages.pop(name, None)
        repo.write_refs(replace(refs, tags=tags, tag_messages=messages))
