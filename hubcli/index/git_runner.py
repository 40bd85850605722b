"""git, run so that nothing is run or asked that the repository's own settings name: no hooks, no monitor, no fetch, no prompt.

What is called here takes no filters and no attributes either: objects are listed, printed, hashed and named as they are.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from hubcli.errors import NotFoundError, UsageError

SECONDS = 300
_SETTINGS = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.splitIndex": "false",
    "safe.bareRepository": "explicit",
}
_KEPT = ("GIT_CONFIG", "GIT_EXEC_PATH", "GIT_AUTHOR_", "GIT_COMMITTER_")
_QUIET = {
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
}


def git(
    folder: Path, *arguments: str, given: bytes = b"", env: Mapping[str, str] | None = None, doing: str = "read"
) -> bytes:
    """What a git command prints.

    Args:
        given: what it reads. env: variables for this call alone. doing: what it can't do where it fails, for the message.

    Raises:
        NotFoundError: git is not installed. UsageError: git fails, with what it says.
    """
    settings = [word for key, value in _SETTINGS.items() for word in ("-c", f"{key}={value}")]
    command = ["git", "--no-pager", "--no-replace-objects", *settings, "-C", str(folder), *arguments]
    environment = {**_environment(), **(env or {})}
    try:
        done = subprocess.run(command, input=given, capture_output=True, env=environment, timeout=SECONDS, check=False)
    except FileNotFoundError:
        raise NotFoundError(f"git is not installed, and {folder} is a git checkout", hint="install git") from None
    except subprocess.TimeoutExpired:
        raise UsageError(f"git {arguments[0]} took longer than {SECONDS} s in {folder}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise UsageError(f"git can't {doing} {folder}", cause=ascii(said)[1:-1][:300] or f"git {arguments[0]} failed")
    return done.stdout


def git_line(folder: Path, *arguments: str) -> bytes | None:
    """The one line that a git command prints, without its end; None where git fails.

    Raises:
        NotFoundError: git is not installed.
    """
    try:
        return git(folder, *arguments).removesuffix(b"\n")
    except UsageError:
        return None


def _environment() -> dict[str, str]:
    """Ours, without what would point git at another repository (a hook sets it) or make it ask, trace or fetch."""
    return {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k.startswith(_KEPT)} | _QUIET
