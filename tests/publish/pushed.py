"""Drafts, index folders and git checkouts for tests of the push."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from hubcli.manifest import BaseModel, Release
from hubcli.publishing.draft import Draft, DraftFile
from tests.support.adapters import BASE_ID, lora_files

NAME, REPO = "acme/films", "acme/films-lora"
ROLES = {"README.md": "card", "adapter_config.json": "config", "adapter_model.safetensors": "weights"}
IDENTITY = {
    **{
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "A"), ("EMAIL", "a@b"))
    },
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


def draft_of(
    files: dict[str, bytes] | None = None, *, name: str = NAME, version: str = "1.0.0", **release: Any
) -> Draft:
    """A draft of an adapter as the checks make one; `files` are a LoRA's."""
    made = files if files is not None else lora_files()
    listed = tuple(
        DraftFile(path, len(data), hashlib.sha256(data).hexdigest(), ROLES.get(path), data=data)
        for path, data in sorted(made.items())
    )
    base = BaseModel(BASE_ID, architecture="BertModel")
    document = Release(version, "apache-2.0", "", method="lora", base=base, task="feature-extraction", language=("en",))
    told = replace(document, method_config={"r": 2}, **release)
    return Draft(name, "adapter", "A film review.", ({"name": "Acme"},), told, listed)


def released(draft: Draft, commit: str = "a" * 40, when: str = "2026-11-21T10:00:00Z") -> Release:
    """The release as the entry has it."""
    return draft.published(REPO, commit, when)


def git(folder: Path, *arguments: str) -> str:
    """A git command in a folder, as a person with a name."""
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True, text=True, check=True, env={**os.environ, **IDENTITY},
    )  # fmt: skip
    return done.stdout.strip()


def checkout(folder: Path, files: dict[str, bytes | str], branch: str = "main") -> Path:
    """A git checkout with one commit."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content.encode() if isinstance(content, str) else content)
    git(folder, "init", "-q", "-b", branch)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, git's own left out."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


def owners(**groups: list[str]) -> str:
    """An `_owners.json`."""
    return json.dumps({"v": 1, "groups": groups}, indent=2) + "\n"
