"""A git checkout with an index in it, made with git itself."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from tests.registry.entrydocs import write

IDENTITY = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@x", "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@x"}
QUIET = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def git(folder: Path, *arguments: str) -> str:
    """A git command; what it prints."""
    environment = {**os.environ, **IDENTITY, **QUIET}
    done = subprocess.run(["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def commit(folder: Path, message: str = "change") -> str:
    """Everything as a commit; its name."""
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def checkout(folder: Path, *documents: dict[str, Any], under: str = ".") -> Path:
    """A repository on branch `main`, these entries published there, and a branch `proposal` checked out. The index folder."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    write(folder / under, *documents)
    commit(folder, "published")
    git(folder, "checkout", "-q", "-b", "proposal")
    return folder / under
