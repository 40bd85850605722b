"""The push: one commit, read back, one tag; whatever was done before, by this command or by one that was cut off, is taken over.

There is no journal: what is done is read from the hub each time. A commit names the one it stands on, so that one that was sent
twice, or that meets another, is refused by the hub and looked at again.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping

from hubcli.errors import EntryError, RaceError, UsageError
from hubcli.frozen import frozen
from hubcli.progress import Progress
from hubcli.publishing.draft import Draft
from hubcli.publishing.foreign import check_foreign
from hubcli.publishing.readback import read_back
from hubcli.publishing.refused import AGAIN, LostError
from hubcli.publishing.repository import Change, RemoteFile, Repository, State
from hubcli.sizes import many
from hubcli.store.faults import reach

TRIES = 4
PAUSE = 0.5  # seconds before a second try; twice as many before the next
_LISTED = re.compile(r"^([0-9a-f]{64})  (\S.*)$", re.MULTILINE)
Say = Callable[[str], None]


@frozen
class Look:
    """A repository seen against a draft.

    `commit` has all files of the draft already (a tag's, or main's); where it is None, `added` and `changed` are what a commit
    on `state.head` writes and `deleted` what it takes away: files that an earlier release left. `kept` are files of others,
    `overwritten` what `changed` has of theirs, and `released` says whether a release of this adapter is there.
    """

    state: State
    tag: str
    tagged: bool
    commit: str | None
    there: Mapping[str, RemoteFile]
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    overwritten: tuple[str, ...] = ()
    released: bool = False


@frozen
class Pushed:
    """What is on the hub now: the commit, when it was made, its tag, and whether this call wrote any of it."""

    commit: str
    when: str
    tag: str
    wrote: bool


def look(repository: Repository, draft: Draft) -> Look:
    """What pushing a draft would do; reads, writes nothing.

    Raises:
        EntryError: E_IMMUTABLE, the version's tag is there and has other files. UsageError: the version can name no tag.
        NetworkError, …: as `Repository`.
    """
    version = draft.release.version
    if version.endswith(".lock"):  # all that a SemVer version can break of git's rules for names of refs
        raise UsageError(f"git takes no tag called v{version}", hint="take another --version")
    state = repository.state()
    tag = next((t for t in state.tags if _bare(t.removeprefix("v")) == _bare(version) and t[:1] == "v"), f"v{version}")
    if tag in state.tags:
        there = repository.files(state.tags[tag])
        _check_same(repository, draft, tag, there)
        return Look(state, tag, True, state.tags[tag], there)
    if state.head is None:
        return Look(state, tag, False, None, {}, added=tuple(file.path for file in draft.files))
    return _against_main(repository, draft, state, state.head, tag)


def _against_main(repository: Repository, draft: Draft, state: State, head: str, tag: str) -> Look:
    there = repository.files(head)
    own = {file.path for file in draft.files}
    added = tuple(file.path for file in draft.files if file.path not in there)
    changed = tuple(f.path for f in draft.files if f.path in there and not there[f.path].is_same(f))
    before = [change for change in repository.history(head) if _listed(change)]
    last = next((change for change in before if _published(change) == draft.name), None)
    left = {path: file for path, file in there.items() if path not in own}
    deleted = tuple(_deleted(repository, last, left)) if last is not None else ()
    kept = tuple(path for path in there if path not in own and path not in deleted)
    others = {name for change in before if (name := _published(change)) not in (None, draft.name)}
    ours = {path for change in before if _published(change) == draft.name for path in _listed(change)}
    overwritten = tuple(path for path in changed if path not in ours)
    commit = None if added or changed or deleted else head
    return Look(
        state, tag, False, commit, there, added, changed, deleted, kept, tuple(sorted(filter(None, others))),
        overwritten, last is not None,
    )  # fmt: skip


def _deleted(repository: Repository, last: Change, left: Mapping[str, RemoteFile]) -> Iterator[str]:
    """Of files that the draft has not, those that a release's commit wrote: it lists them, with the hash that they have still."""
    listed = {path: sha256 for path, sha256 in _listed(last).items() if path in left}
    old = repository.files(last.commit) if listed else {}
    for path, sha256 in listed.items():
        if old.get(path) == left[path] and _sha256(repository, last.commit, path, left[path]) == sha256:
            yield path


def _sha256(repository: Repository, commit: str, path: str, file: RemoteFile) -> str:
    """A hash that the hub has of large files alone; a small one is fetched."""
    return file.sha256 or hashlib.sha256(repository.read(commit, path, file.size) or b"").hexdigest()


def push(
    repository: Repository,
    draft: Draft,
    seen: Look,
    *,
    private: bool,
    into_existing: bool = False,
    message: str | None,
    say: Say,
    progress: Progress,
    sleep: Callable[[float], None] = time.sleep,
) -> Pushed:
    """Bring a draft to the hub as `seen` says, read it back, and tag it.

    Raises:
        RaceError: someone changed the same files in between. ContentError: what comes back is not what was sent.
        EntryError: E_IMMUTABLE, the tag was taken in between. NetworkError, …: as `Repository`.
        UsageError, PolicyError: as `check_private` and `check_foreign`, of a repository that was not there for `seen`.
    """
    wrote = seen.commit is None or not seen.tagged
    if not seen.state.exists:
        reach("publish-before-create")
        say(f"creating {repository.where}")
        repository.create(private=private)
        reach("publish-after-create")
        seen = look(repository, draft)
        check_private(repository, seen, private)  # someone else may have made it in between, and filled it
        check_foreign(repository.where, seen, into_existing)
    commit = seen.commit or _committed(repository, draft, seen, message, say, sleep)
    say(f"reading back {many(len(draft.files), 'file')} of {repository.name} at {commit[:12]}")
    read_back(repository, commit, draft.files, progress)
    when = repository.history(commit)[0].when
    if not seen.tagged:
        _tag(repository, draft, seen.tag, commit)
    reach("publish-after-tag")
    return Pushed(commit, when, seen.tag, wrote)


def check_private(repository: Repository, seen: Look, private: bool) -> None:
    """Refuse --private for a repository that is public: a push does not hide what is out.

    Raises:
        UsageError: with where it can be changed.
    """
    if private and seen.state.exists and not seen.state.private:
        hint = f"without --private, or change its visibility on {repository.where}/settings first"
        raise UsageError(f"{repository.where} is there already, and public", hint=hint)


def title_of(name: str, version: str) -> str:
    """What a commit, a branch and a pull request of a release are called."""
    return f"Publish {name} {version}"


def _committed(
    repository: Repository, draft: Draft, seen: Look, message: str | None, say: Say, sleep: Callable[[float], None]
) -> str:
    """The commit with the draft's files: ours, or one that turns out to be there."""
    for number in range(1, TRIES + 1):
        reach("publish-before-commit")
        try:
            made = _commit(repository, draft, seen, message, say)
        except (RaceError, LostError) as error:
            now = look(repository, draft)
            if now.commit is not None:
                say(f"the commit is there: {now.commit[:12]}")
                return now.commit
            _refuse_overlap(repository, draft, seen, now)
            if number == TRIES:
                raise
            say(f"{error.message}; trying again")
            sleep(PAUSE * 2 ** (number - 1))
            seen = now
        else:
            reach("publish-after-commit")
            return made
    raise AssertionError("the last try returns or raises")


def _commit(repository: Repository, draft: Draft, seen: Look, message: str | None, say: Say) -> str:
    title = title_of(draft.name, draft.release.version)
    listing = "\n".join(f"{file.sha256}  {file.path}" for file in draft.files)
    files = [file for file in draft.files if file.path in {*seen.added, *seen.changed}]
    say(f"pushing {many(len(files), 'file')} ({sum(file.size for file in files):,} bytes) to {repository.where}")
    text = f"{title}\n\n{listing}\n"
    info = repository.commit(files, seen.deleted, title=message or title, text=text, parent=seen.state.head)
    return str(info.oid)


def _refuse_overlap(repository: Repository, draft: Draft, before: Look, now: Look) -> None:
    """Refuse to go on where someone else changed what this push changes."""
    own = {file.path: file for file in draft.files}
    for path in (*own, *before.deleted):
        old, new = before.there.get(path), now.there.get(path)
        if old != new and not (new is not None and path in own and new.is_same(own[path])):
            what = f"someone else changed {path} in {repository.where} in between"
            hint = f"look at {repository.where}/commits/main; run the same command again to put this release on top"
            raise RaceError(what, hint=hint)


def _tag(repository: Repository, draft: Draft, tag: str, commit: str) -> None:
    reach("publish-before-tag")
    try:
        repository.tag(tag, commit)
    except (RaceError, LostError):
        found = repository.state().tags.get(tag)
        if found is None:
            raise
        if found != commit:
            _check_same(repository, draft, tag, repository.files(found))
            message = f"{repository.where}: the tag {tag} was set to {found[:12]} in between, by someone else"
            raise RaceError(message, hint=AGAIN) from None


def _check_same(repository: Repository, draft: Draft, tag: str, there: Mapping[str, RemoteFile]) -> None:
    """Refuse a version whose tag has other files."""
    other = [file.path for file in draft.files if file.path not in there or not there[file.path].is_same(file)]
    if other:
        shown = ", ".join(other[:5]) + (", …" if len(other) > 5 else "")
        message = f"{repository.where} has a tag {tag} with other bytes of {shown}: a version never changes"
        raise EntryError(message, hint="take the next --version", id="E_IMMUTABLE")


def _listed(change: Change) -> dict[str, str]:
    """The files that a commit of ours says it is about: path → sha256."""
    return {path: sha256 for sha256, path in _LISTED.findall(change.message)}


def _published(change: Change) -> str | None:
    """The name that a commit of ours says it publishes."""
    found = re.match(r"Publish (\S+) \S+$", change.message.partition("\n")[0])
    return found[1] if found else None


def _bare(version: str) -> str:
    return version.partition("+")[0]
