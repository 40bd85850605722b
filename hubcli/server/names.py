"""Which repo ids, revisions and file paths can exist. Nothing here touches the disk."""

from __future__ import annotations

import re
from typing import Final

from hubcli.server.faults import BadRequestFault

REPO_TYPES: Final = ("model", "dataset")

_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?\Z")
_REF_PART = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9._+@=,-]*\Z")
_HEX40 = re.compile(r"[0-9a-f]{40}\Z")
# Below /api/models/ these words name a view of a repo, so a repo of that name could not be told from one.
_VIEWS: Final = frozenset(
    ("auth-check", "blob", "branch", "commit", "commits", "discussions", "paths-info", "preupload", "raw", "refs",
     "lfs-files", "resolve", "revision", "settings", "super-squash", "tag", "tree", "xet-read-token", "xet-write-token")
)  # fmt: skip
# Above a repo these words are the server's own.
_ROOTS: Final = frozenset(("api", "datasets", "models", "spaces"))

MAX_ID, MAX_REF, MAX_PATH, MAX_PATH_PART = 96, 128, 1024, 255


def is_commit_id(text: str) -> bool:
    """True for 40 lower-case hex digits."""
    return _HEX40.match(text) is not None


def check_repo_type(repo_type: str) -> str:
    """`model` or `dataset`, else BadRequestFault."""
    if repo_type not in REPO_TYPES:
        raise BadRequestFault(f"repo type: expected one of {', '.join(REPO_TYPES)}, found {repo_type!r}")
    return repo_type


def check_repo_id(repo_id: str) -> str:
    """`name` or `org/name` by the hub's own rules, else BadRequestFault."""
    parts = repo_id.split("/")
    fine = (
        len(parts) <= 2
        and len(repo_id) <= MAX_ID
        and all(_PART.match(part) for part in parts)
        and "--" not in repo_id
        and ".." not in repo_id
        and not repo_id.endswith(".git")
        and parts[0].lower() not in _ROOTS
        and parts[-1].lower() not in _VIEWS
    )
    if not fine:
        raise BadRequestFault(
            f"repo id {repo_id!r}: expected name or org/name of letters, digits, '-', '_', '.', at most {MAX_ID} long",
            cause="no '--' or '..', no '-' or '.' at an end, no '.git' at the end, no reserved word",
        )
    return repo_id


def check_ref_name(name: str) -> str:
    """A branch or tag name, else BadRequestFault: a plain subset of git's rules; 40 hex digits are kept for commits."""
    parts = name.split("/")
    fine = (
        len(name) <= MAX_REF
        and all(_REF_PART.match(part) and not part.endswith((".", ".lock")) for part in parts)
        and ".." not in name
        and parts[0] != "refs"
        and not is_commit_id(name)
    )
    if not fine:
        raise BadRequestFault(f"branch or tag {name!r}: expected a git ref name, letters, digits and ._+@=,-/")
    return name


def check_path(path: str) -> str:
    """A file's path inside a repo: relative, with '/', printable; else BadRequestFault."""
    parts = path.split("/")
    fine = (
        len(path.encode("utf-8", "surrogatepass")) <= MAX_PATH
        and all(part not in ("", ".", "..") and _printable(part) for part in parts)
        and all(len(part.encode("utf-8", "surrogatepass")) <= MAX_PATH_PART for part in parts)
        and not any(part.lower() == ".git" for part in parts)
    )
    if not fine:
        raise BadRequestFault(
            f"file path {path!r}: expected a relative path with '/' between names",
            cause="no '.', '..', '\\' or control characters, no .git",
        )
    return path


def _printable(part: str) -> bool:
    # isprintable also refuses lone surrogates (names that are no UTF-8) and direction marks; a space is printable.
    return part.isprintable() and "\\" not in part
