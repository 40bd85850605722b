"""Discussions and pull requests in the storage. Knows nothing of HTTP. All that changes is called under the repo's lock
or takes it.

A pull request's newest commit stands in its own document, so one write opens it with its commit. Merging makes one
commit on the branch and then says so in the document: a merge that was killed in between is finished by the next.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from hubcli.server.changes import changed, merged
from hubcli.server.crash import reach
from hubcli.server.discussions import DRAFT, MERGED, OPEN, Discussion
from hubcli.server.disk import write_document
from hubcli.server.faults import BadRequestFault, Conflict, DiscussionMissing, RevisionMissing
from hubcli.server.objects import Commit, timestamp
from hubcli.server.repo import MAIN, Edit, Repo, Words

MAX_TEXT: Final = 64 * 1024


def find(repo: Repo, number: int) -> Discussion:
    """The discussion of this number, else DiscussionMissing."""
    try:
        return repo.discussion(number)
    except FileNotFoundError:
        raise DiscussionMissing(f"{repo.id} has no discussion {number}") from None


def listed(repo: Repo) -> list[Discussion]:
    """All discussions, newest first."""
    return [find(repo, number) for number in reversed(repo.discussion_numbers())]


def open_discussion(repo: Repo, title: str, description: str, author: str, *, pull: bool) -> Discussion:
    """A new discussion, or a pull request without a change of its own yet (a draft), with its first comment."""
    with repo.changing():
        new = _numbered(repo, title, author)
        if pull:
            head = repo.resolve(MAIN).id
            new = replace(new, status=DRAFT, target=MAIN, base=head, head=head)
        return _save(repo, new.having("comment", author, new.created, comment(description, new.created)))


def propose(repo: Repo, revision: str, edit: Edit, words: Words) -> Discussion:
    """A pull request onto main of one commit, which `edit` makes after a revision.

    A commit that changes nothing opens none: BadRequestFault.
    """
    if revision.startswith("refs/pr/"):
        raise BadRequestFault("a pull request starts from a branch or a commit, not from another pull request")
    with repo.changing():
        base = repo.resolve(revision)
        commit = repo.write_commit(base, edit(base), words)
        if commit is base:
            raise BadRequestFault(f"{repo.id}: a pull request has to change something")
        new = replace(_numbered(repo, words.title, words.author), target=MAIN, base=base.id, head=commit.id)
        if words.message:
            new = new.having("comment", words.author, new.created, comment(words.message, new.created))
        return _save(repo, _with_commit(new, commit))


def commit_to(repo: Repo, revision: str, edit: Edit, words: Words) -> Commit:
    """A commit onto `refs/pr/<number>`; Conflict if it is merged or closed."""
    pull = live_pull(repo, revision)
    head = repo.commit(str(pull.head))
    commit = repo.write_commit(head, edit(head), words)
    if commit is not head:
        _save(repo, _with_commit(replace(pull, head=commit.id), commit))
    return commit


def live_pull(repo: Repo, revision: str) -> Discussion:
    """The pull request that `refs/pr/<number>` names; RevisionMissing if there is none, Conflict if it takes no commits."""
    number = revision.removeprefix("refs/pr/")
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise RevisionMissing(f"{repo.id} has no revision {revision!r}")
    try:
        pull = repo.discussion(int(number))
    except FileNotFoundError:
        raise RevisionMissing(f"{repo.id} has no revision {revision!r}") from None
    if not pull.is_pull:
        raise RevisionMissing(f"{repo.id}: {number} is a discussion and no pull request")
    if not pull.is_live:
        raise Conflict(f"{repo.id}: pull request {number} is {pull.status} and takes no commits")
    return pull


def _with_commit(pull: Discussion, commit: Commit) -> Discussion:
    return pull.having("commit", commit.author, commit.date, {"subject": commit.title, "oid": commit.id})


def add_comment(repo: Repo, number: int, text: str, author: str) -> Discussion:
    """The discussion with one more comment, its last event."""
    with repo.changing():
        now = timestamp()
        return _save(repo, find(repo, number).having("comment", author, now, comment(text, now)))


def rename(repo: Repo, number: int, title: str, author: str) -> Discussion:
    """The discussion under another title; the change is its last event."""
    with repo.changing():
        old = find(repo, number)
        words = {"from": old.title, "to": _title(title)}
        return _save(repo, old.having("title-change", author, timestamp(), words, title=title))


def set_status(repo: Repo, number: int, status: str, text: str, author: str) -> Discussion:
    """The discussion open or closed, perhaps with a comment before; the change is its last event."""
    with repo.changing():
        found = find(repo, number)
        if found.status in (MERGED, status):
            raise Conflict(f"{repo.id}: discussion {number} is {found.status} already")
        if status == OPEN and found.is_pull and found.head == found.base:
            raise Conflict(f"{repo.id}: pull request {number} has no commit to review yet")
        return _save(repo, _with_status(_commented(found, text, author), status, author))


def merge(repo: Repo, number: int, text: str, author: str) -> Discussion:
    """Bring what the pull request changed onto its branch, as one commit. Conflict if that can't be done."""
    with repo.changing():
        pull = find(repo, number)
        if pull.target is None or not pull.is_live:
            raise Conflict(f"{repo.id}: {number} is {'no pull request' if not pull.is_pull else pull.status}")
        changes, conflicts = _difference(repo, pull)
        if conflicts:
            raise Conflict(f"{repo.id}: {pull.target} has changed {', '.join(conflicts[:10])} otherwise")
        if pull.head == pull.base:
            raise Conflict(f"{repo.id}: pull request {number} has nothing to merge")
        words = Words(f"{pull.title} (#{number})", author=author)
        commit = repo.commit_to(pull.target, lambda head: changed(head, changes), words)
        return _save(repo, _with_status(_commented(pull, text, author), MERGED, author, merged=commit.id))


def conflicts_of(repo: Repo, pull: Discussion) -> list[str]:
    """The paths that a live pull request and its branch have changed otherwise."""
    return _difference(repo, pull)[1] if pull.is_live else []


def _difference(repo: Repo, pull: Discussion) -> tuple[list[Any], list[str]]:
    base, head = (repo.commit(str(one)).files for one in (pull.base, pull.head))
    return merged(base, head, repo.resolve(f"refs/heads/{pull.target}").files)


def comment(text: str, date: str) -> dict[str, Any]:
    """What a comment event says."""
    if not text.strip() or len(text) > MAX_TEXT:
        raise BadRequestFault(f"comment: expected a text of 1 to {MAX_TEXT} characters")
    return {"edited": False, "hidden": False, "latest": {"raw": text, "updatedAt": date}, "history": []}


def _commented(found: Discussion, text: str, author: str) -> Discussion:
    now = timestamp()
    return found.having("comment", author, now, comment(text, now)) if text.strip() else found


def _with_status(found: Discussion, status: str, author: str, **also: Any) -> Discussion:
    return found.having("status-change", author, timestamp(), {"status": status}, status=status, **also)


def _numbered(repo: Repo, title: str, author: str) -> Discussion:
    number = max(repo.discussion_numbers(), default=0) + 1
    return Discussion(number, _title(title), OPEN, author, timestamp())


def _title(title: str) -> str:
    if not title.strip() or len(title) > 1000 or "\n" in title:
        raise BadRequestFault("title: expected one line of 1 to 1000 characters")
    return title


def _save(repo: Repo, discussion: Discussion) -> Discussion:
    reach("before-discussion")
    write_document(repo.path / "discussions" / f"{discussion.number}.json", discussion.to_json())
    reach("after-discussion")
    return discussion
