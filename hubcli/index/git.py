"""An index folder at a revision of the git checkout that holds it, read from git's objects.

The working tree is neither read nor changed, and nothing that the repository's own settings name is run (`git_runner`);
missing objects are not fetched, a folder that only looks like a repository is none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hubcli.errors import NotFoundError, UsageError
from hubcli.index.git_runner import git
from hubcli.index.sources import ENTRY_LIMIT, FILES, META, STATIC, entry_name
from hubcli.index.state import OWNERS, OWNERS_LIMIT, State

MAX_LISTING = 256 * 1024 * 1024
MAX_BYTES = 1024 * 1024 * 1024
_TOO_LONG = b" " * (OWNERS_LIMIT + 1)
_REGULAR = (b"100644", b"100755", b"100664")


class _Blob(NamedTuple):
    """A file of a listing; `oid` is None where it is a link or a submodule."""

    path: str
    oid: bytes | None
    size: int


def in_checkout(folder: Path) -> bool:
    """Does a git checkout hold this folder? Looked up without git, which may be missing or refuse to read it."""
    here = folder.resolve()
    return any((place / ".git").exists() for place in (here, *here.parents))


def commit_of(folder: Path, revision: str) -> str:
    """The commit that a branch, a tag or a commit's name stands for in the checkout that holds a folder.

    Raises:
        NotFoundError: there is no such revision, or git is not installed.
        UsageError: no checkout holds the folder, or git refuses to read it.
    """
    git(folder, "rev-parse", "--git-dir")
    try:
        if not revision.isprintable():
            raise UsageError("a revision is printable text")
        asked = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        return git(folder, *asked).decode().strip()
    except UsageError:
        if revision == "HEAD":
            hint = "make the first one: git add -A && git commit --allow-empty -m 'Start the index'"
            raise NotFoundError(f"the git checkout of {folder} has no commit yet", hint=hint) from None
        hint = "fetch it first, e.g. git fetch origin main; in CI check out with fetch-depth: 0; a folder is written ./NAME"
        message = f"the git checkout of {folder} has no revision {ascii(revision)[1:-1]}"
        raise NotFoundError(message, hint=hint) from None


def revision_state(folder: Path, revision: str) -> State:
    """What the index folder held at a revision.

    Raises:
        NotFoundError, UsageError: as `commit_of`; or the revision has no such folder.
    """
    commit = commit_of(folder, revision)
    prefix = os.fsdecode(git(folder, "rev-parse", "--show-prefix").removesuffix(b"\n")).rstrip("/")
    where = f"{ascii(revision)[1:-1]} ({commit[:12]})"
    try:
        listing = git(folder, "ls-tree", "-r", "-z", "-l", "--full-tree", f"{commit}:{prefix}")
    except UsageError:
        raise NotFoundError(f"{where} has no folder {ascii(prefix)[1:-1] or '.'}") from None
    if len(listing) > MAX_LISTING:
        raise UsageError(f"{where} lists more than {MAX_LISTING:,} bytes of paths: no index is that large")
    listed = list(_blobs(listing, where))
    blobs = [blob for blob in listed if blob.oid is not None]
    links = tuple(sorted(blob.path for blob in listed if blob.oid is None and blob.path.count("/") < 2))
    wanted = [blob for blob in blobs if blob.path in (META, OWNERS, STATIC) or entry_name(blob.path)]
    data = _read(folder, wanted, where)
    return State(
        where,
        {name: data[path] for path in data if (name := entry_name(path))},
        data.get(META),
        data.get(OWNERS),
        frozenset(blob.path.partition("/")[2] for blob in blobs if blob.path.startswith(f"{FILES}/")),
        links,
        data.get(STATIC),
    )


def _blobs(listing: bytes, where: str) -> Iterator[_Blob]:
    """What a listing holds."""
    for line in listing.split(b"\0"):
        told, _, path = line.partition(b"\t")
        mode, *rest = told.split() or [b""]
        if mode in _REGULAR:
            _, oid, size = rest
            if not size.isdigit():
                raise _unreadable(os.fsdecode(path), where)
            yield _Blob(os.fsdecode(path), oid, int(size))
        elif mode:
            yield _Blob(os.fsdecode(path), None, 0)


def _unreadable(path: str, where: str) -> UsageError:
    hint = "fetch all of it: no partial clone (git fetch --refetch), and git fsck"
    return UsageError(f"git can't read {ascii(path)[1:-1]} of {where}: its object is missing or damaged", hint=hint)


def _read(folder: Path, blobs: list[_Blob], where: str) -> dict[str, bytes]:
    """path → bytes; a file over the limit of its kind as that many bytes and one, which no reader takes."""
    fits = {blob: blob.size <= _limit(blob.path) for blob in blobs}
    found = {blob.path: _TOO_LONG[: _limit(blob.path) + 1] for blob in blobs if not fits[blob]}
    small = [blob for blob in blobs if fits[blob]]
    if sum(blob.size for blob in small) > MAX_BYTES:
        raise UsageError(f"{where} holds more than {MAX_BYTES:,} bytes of entries: no index is that large")
    out = git(folder, "cat-file", "--batch", given=b"".join(b"%s\n" % blob.oid for blob in small)) if small else b""
    at = 0
    for blob in small:
        head = b"%s blob %d\n" % (blob.oid, blob.size)
        start = at + len(head)
        if out[at:start] != head:
            raise _unreadable(blob.path, where)
        found[blob.path] = out[start : start + blob.size]
        at = start + blob.size + 1
    return found


def _limit(path: str) -> int:
    return OWNERS_LIMIT if path == OWNERS else ENTRY_LIMIT
