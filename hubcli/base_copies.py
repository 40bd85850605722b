"""A base that was copied to another hub: its repository has another commit there, its weights file has the same hash."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path

from hubcli import bases
from hubcli.errors import BaseNotFoundError, OfflineError
from hubcli.hashes import sha256_of
from hubcli.manifest import BaseModel
from hubcli.method import HubcliWarning
from hubcli.paths import offline_switch


def place_of(
    base: BaseModel, *, weights: bool = True, offline: bool | str = False, token: str | None = None
) -> tuple[BaseModel, str]:
    """A base and where it is, as `find_base`; where the commit that it names is not to be had, but the weights that it states
    are on the main branch of its repository, the base at that commit. A warning says so. Without `weights`, which would be
    fetched to be looked at, only the base as it is named.

    Raises:
        BaseNotFoundError, OfflineError, MissingExtraError: as `find_base`.
    """
    try:
        return base, bases.find_base(base, offline=offline, token=token)
    except (BaseNotFoundError, OfflineError):
        copy = _same_weights(base, offline=bool(offline or offline_switch()), token=token) if weights else None
        if copy is None:
            raise
    message = (
        f"{base.id} has no commit {(base.revision or '')[:12]} here; taken as it is at {(copy.revision or '')[:12]}"
    )
    warnings.warn(f"{message}, which has the same weights", HubcliWarning, stacklevel=2)
    return copy, copy.id


def _same_weights(base: BaseModel, *, offline: bool, token: str | None) -> BaseModel | None:
    from huggingface_hub import HfApi, RepoFile, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    if not base.weights_sha256 or not re.fullmatch(r"[0-9a-f]{40}", base.revision or ""):
        return None
    try:
        for listed in () if offline else HfApi().get_paths_info(base.id, bases.WEIGHTS, token=token):
            if isinstance(listed, RepoFile) and listed.lfs and listed.lfs.sha256 != base.weights_sha256:
                return None  # the hub tells, before gigabytes are fetched
        file = Path(hf_hub_download(base.id, bases.WEIGHTS, token=token, local_files_only=offline))
    except (OSError, ValueError, EntryNotFoundError):
        return None
    return replace(base, revision=file.parent.name) if sha256_of(file) == base.weights_sha256 else None
