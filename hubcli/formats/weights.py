"""Safetensors files, in and out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hubcli.errors import WeightsError


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a file, views of its mapping.

    Raises:
        WeightsError: it can't be read.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{file} can't be read", cause=str(error)) from error


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors in the order of their keys; what shares memory (tied weights) is written twice, the format has no sharing."""
    seen: set[int] = set()
    kept = {}
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        kept[key] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    file.touch()
    mode = file.stat().st_mode  # as the umask has it; safetensors writes a file that its owner alone can read
    save_file(kept, file, metadata={"format": "pt"})
    file.chmod(mode)
