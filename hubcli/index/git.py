"""An index folder at a revision of the git checkout that holds it, read from git's objects.

The working tree is neither read nor changed, and nothing that the repository's own settings name is run: objects are
listed and printed as they are (no filters, no attributes, no archive), missing ones are not fetched, a folder that only
looks like a repository is none.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hubcli.errors import NotFoundError, UsageError
from hubcli.index.sources import ENTRY_LIMIT, FILES, META, entry_name
from hubcli.index.state import OWNERS, OWNERS_LIMIT, State

MAX_LISTING = 256 * 1024 * 1024
MAX_BYTES = 1024 * 1024 * 1024
SECONDS = 300
_SETTINGS = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "safe.bareRepository": "explicit",
}
_TOO_LONG = b" " * (OWNERS_LIMIT + 1)
_REGULAR = (b"100644", b"100755", b"100664")


class _Blob(NamedTuple):
    path: str
    oid: bytes
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
    _git(folder, "rev-parse", "--git-dir")
    try:
        if not revision.isprintable():
            raise UsageError("a revision is printable text")
        return (
            _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
            .decode()
            .strip()
        )
    except UsageError:
        hint = "fetch it first, e.g. git fetch origin main; in CI check out with fetch-depth: 0; a folder is written ./NAME"
        message = f"the git checkout of {folder} has no revision {ascii(revision)[1:-1]}"
        raise NotFoundError(message, hint=hint) from None


def revision_state(folder: Path, revision: str) -> State:
    """What the index folder held at a revision.

    Raises:
        NotFoundError, UsageError: as `commit_of`; or the revision has no such folder.
    """
    commit = commit_of(folder, revision)
    prefix = os.fsdecode(_git(folder, "rev-parse", "--show-prefix").removesuffix(b"\n")).rstrip("/")
    where = f"{ascii(revision)[1:-1]} ({commit[:12]})"
    try:
        listing = _git(folder, "ls-tree", "-r", "-z", "-l", "--full-tree", f"{commit}:{prefix}")
    except UsageError:
        raise NotFoundError(f"{where} has no folder {ascii(prefix)[1:-1] or '.'}") from None
    if len(listing) > MAX_LISTING:
        raise UsageError(f"{where} lists more than {MAX_LISTING:,} bytes of paths: no index is that large")
    blobs = list(_blobs(listing, where))
    wanted = [blob for blob in blobs if blob.path in (META, OWNERS) or entry_name(blob.path)]
    data = _read(folder, wanted, where)
    return State(
        where,
        {name: data[path] for path in data if (name := entry_name(path))},
        data.get(META),
        data.get(OWNERS),
        frozenset(blob.path.partition("/")[2] for blob in blobs if blob.path.startswith(f"{FILES}/")),
    )


def _blobs(listing: bytes, where: str) -> Iterator[_Blob]:
    """The regular files of a listing: no links, no submodules."""
    for line in listing.split(b"\0"):
        told, _, path = line.partition(b"\t")
        mode, *rest = told.split() or [b""]
        if mode in _REGULAR:
            _, oid, size = rest
            if not size.isdigit():
                raise _unreadable(os.fsdecode(path), where)
            yield _Blob(os.fsdecode(path), oid, int(size))


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
    out = _git(folder, "cat-file", "--batch", given=b"".join(blob.oid + b"\n" for blob in small)) if small else b""
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


def _git(folder: Path, *arguments: str, given: bytes = b"") -> bytes:
    """What a git command prints.

    Raises:
        NotFoundError: git is not installed. UsageError: git fails, with what it says.
    """
    settings = [word for key, value in _SETTINGS.items() for word in ("-c", f"{key}={value}")]
    command = ["git", "--no-pager", "--no-replace-objects", *settings, "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, env=_environment(), timeout=SECONDS, check=False
        )
    except FileNotFoundError:
        raise NotFoundError("git is not installed, and a revision can't be read without it") from None
    except subprocess.TimeoutExpired:
        raise UsageError(f"git {arguments[0]} took longer than {SECONDS} s in {folder}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise UsageError(f"git can't read {folder}", cause=ascii(said)[1:-1][:300] or f"git {arguments[0]} failed")
    return done.stdout


def _environment() -> dict[str, str]:
    """Ours, without what would point git at another repository (a hook sets it) or make it ask, trace or fetch."""
    kept = ("GIT_CONFIG", "GIT_EXEC_PATH")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k.startswith(kept)}
    quiet = {
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
    }
    return {**environment, **quiet, "LC_ALL": "C"}
