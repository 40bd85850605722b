"""Safetensors files, in and out."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hubcli.errors import WeightsError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "BOOL": torch.bool,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
}


class Content:
    """What a file held when it was mapped. Its sha256 is worked out when it is first asked for; a file that was changed since has
    one that no other has.
    """

    def __init__(self, mapped: Tensor | None = None, file: Path | None = None, sha256: str = ""):
        self._mapped, self._file, self._sha256 = mapped, file, sha256
        self._seen = _stamp(file)

    def __getstate__(self) -> dict[str, Any]:
        return {"_mapped": None, "_file": None, "_seen": None, "_sha256": self.sha256()}

    def sha256(self) -> str:
        """In hex."""
        if not self._sha256 and self._mapped is not None:
            found = hashlib.sha256(self._mapped.numpy().data).hexdigest()
            self._sha256 = found if self._seen == _stamp(self._file) else secrets.token_hex(32)
        return self._sha256


def _stamp(file: Path | None) -> tuple[int, int, int] | None:
    """What changes when a file is written to or replaced."""
    try:
        status = None if file is None else file.stat()
    except OSError:
        return None
    return None if status is None else (status.st_ino, status.st_size, status.st_mtime_ns)


class Digest:
    """The identity of an adapter: the sha256 of its configs and of the sha256 of its weights; equal where these are."""

    def __init__(self, *parts: bytes | Content):
        self.parts = parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and self._hashed() == other._hashed()

    def __hash__(self) -> int:
        return hash(self._hashed())

    def _hashed(self) -> bytes:
        parts = (part if isinstance(part, bytes) else bytes.fromhex(part.sha256()) for part in self.parts)
        return hashlib.sha256(b"".join(parts)).digest()


def mapped(file: Path) -> tuple[dict[str, Tensor], Content]:
    """(The tensors of a file, views of its mapping; the file's content).

    Raises:
        WeightsError: it can't be read.
    """
    try:
        with safe_open(file, framework="np") as opened:  # checks the header against the file's size
            keys = opened.keys()
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
            size = stream.seek(0, os.SEEK_END)
        whole = torch.from_file(str(file), shared=False, size=size, dtype=torch.uint8)
        if any(_odd(header[key], 8 + length) for key in keys):
            with safe_open(file, framework="pt") as opened:
                return {key: opened.get_tensor(key) for key in keys}, Content(whole, file)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{file} can't be read", cause=str(error)) from error
    data = whole[8 + length :]
    return {key: _view(data, header[key]) for key in keys}, Content(whole, file)


def _odd(entry: dict[str, Any], start: int) -> bool:
    """Whether a tensor can't be a view of the bytes: a rare dtype, no number in it, or not where its dtype needs it."""
    dtype = DTYPES.get(entry["dtype"])
    first, last = entry["data_offsets"]
    return dtype is None or first == last or (start + first) % dtype.itemsize != 0


def _view(data: Tensor, entry: dict[str, Any]) -> Tensor:
    first, last = entry["data_offsets"]
    return data[first:last].view(DTYPES[entry["dtype"]]).view(entry["shape"])


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a file, views of its mapping; errors as `mapped`."""
    return mapped(file)[0]


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


def cast(file: Path, dtype: str) -> None:
    """Write a file's floating tensors anew in another dtype.

    Raises:
        WeightsError: it can't be read, or a number does not fit.
    """
    wanted = getattr(torch, dtype)
    made = {k: t.to(wanted) if t.is_floating_point() else t.clone() for k, t in read_tensors(file).items()}
    lost = next((k for k, t in made.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())), None)
    if lost is not None:
        raise WeightsError(f"{file}: {lost} has numbers too large for {dtype}", id="E_WEIGHTS_NONFINITE")
    write_tensors(file, made)
