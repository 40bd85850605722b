"""Weights in a `.bin` of a local folder that a person names: read in a child process with limits, kept as safetensors.

One child serves all files of a process and ends with it. What it makes is cached by the sha256 of the `.bin`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from pathlib import Path

from torch import Tensor

from hubcli.formats.weights import Content, mapped, read_tensors
from hubcli.method import HubcliWarning
from hubcli.paths import converted, home
from hubcli.pickles import CHILD, check_size


def weights_of(folder: Path, safe: str, pickled: str) -> tuple[list[str], dict[str, Tensor], Content]:
    """(notes, tensors, content) of the weights; safetensors where both are there."""
    file = folder / safe
    if not file.is_file():
        tensors, sha256 = read_bin(folder / pickled)
        return [], tensors, Content(sha256=sha256)
    notes = [f"{pickled} beside {safe} is ignored"] if (folder / pickled).exists() else []
    return notes, *mapped(file)


def read_bin(file: Path) -> tuple[dict[str, Tensor], str]:
    """(the tensors of a pickled file, its sha256).

    Raises:
        UnsafeFormatError: it holds anything but tensors, or was not read within the limits.
        WeightsError: it is too large.
    """
    check_size(str(file), file.stat().st_size)
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    kept = converted(home()) / f"{sha256}.safetensors"
    if not kept.is_file():
        warnings.warn(
            f"{file} is a pickle: read with weights_only in a process of its own; convert it to safetensors",
            HubcliWarning,
            stacklevel=2,
        )
        kept.parent.mkdir(parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=kept.parent, suffix=".part")
        os.close(handle)
        try:
            CHILD.convert(file, Path(made))
            Path(made).replace(kept)
        finally:
            Path(made).unlink(missing_ok=True)
    return read_tensors(kept), sha256
