"""Reading settings from their levels, the highest first."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hubcli import paths, toml_file
from hubcli.config import values
from hubcli.config.model import BUNDLED, Config, IndexConfig
from hubcli.errors import UsageError

PROJECT_FILE = "adapters.toml"
PROJECT_KEYS = {"adapters", "indexes", "mirrors", "offline"}
USER_KEYS = {"indexes", "mirrors", "offline", "tokens"}


def load_config(
    *,
    indexes: Sequence[str] = (),
    mirrors: Sequence[str] = (),
    offline: bool | None = None,
    project: Path | None = None,
) -> Config:
    """The settings that hold now.

    Args:
        indexes: `NAME=URL` from the command line, before all others.
        mirrors: folders or URLs from the command line, before all others.
        offline: `--offline`.
        project: the `adapters.toml` to read; default: the one in the working folder, if there is one.

    Raises:
        UsageError: E_CONFIG, with file, key, expected and found.
    """
    project_file = project or Path(PROJECT_FILE)
    user_file = user_config_file()
    from_project, from_user = read_toml(project_file), read_toml(user_file)
    values.known_keys(from_project, project_file, PROJECT_KEYS)
    values.known_keys(from_user, user_file, USER_KEYS)
    levels = [
        [values.assignment(text, "command line") for text in indexes],
        [values.assignment(text, "HUBCLI_INDEXES") for text in os.environ.get("HUBCLI_INDEXES", "").split()],
        values.indexes(from_project, project_file, "project"),
        values.indexes(from_user, user_file, "user"),
        [IndexConfig(BUNDLED, BUNDLED, origin="bundled")],
    ]
    user = {index.name: index for index in levels[3]}
    merged: dict[str, IndexConfig] = {}
    for index in (index for level in levels for index in level):
        merged.setdefault(index.name, index)
    given = (
        mirrors,
        os.environ.get("HUBCLI_MIRRORS", "").split(),
        *(values.mirrors(t, f) for t, f in _files(from_project, from_user)),
    )
    switch = "--offline" if offline else paths.offline_switch()
    if switch is None and offline is None and not os.environ.get("HUBCLI_OFFLINE"):
        switch = next((f"offline in {f}" for t, f in _files(from_project, from_user) if values.offline(t, f)), None)
    return Config(
        tuple(index for index in merged.values() if index.url),
        tuple(dict.fromkeys(mirror for level in given for mirror in level)),
        switch,
        tuple(values.token_envs(user, from_user, user_file).items()),
    )


def user_config_file() -> Path:
    """The user's own settings."""
    return paths.home() / "config.toml"


def _files(project: Any, user: Any) -> list[tuple[Mapping[str, Any], Path]]:
    return [(project, Path(PROJECT_FILE)), (user, user_config_file())]


def read_toml(file: Path) -> dict[str, Any]:
    """A settings file; {} where there is none.

    Raises:
        UsageError: E_CONFIG, it is not TOML.
        DiskError: it can't be read.
    """
    return toml_file.read(file, UsageError, "E_CONFIG") if file.exists() else {}
