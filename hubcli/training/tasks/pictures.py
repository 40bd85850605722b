"""Images of rows: from a file, from bytes, from numbers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from hubcli.errors import UsageError
from hubcli.training.examples import Example


def picture(row: Example) -> Any:
    """An RGB image of PIL.

    Raises:
        UsageError: E_DATA, it can't be read, with the row.
    """
    from PIL import Image, UnidentifiedImageError

    given = row.fields["image"]
    if isinstance(given, dict):  # as data sets have it: the bytes, or where they are
        given = given.get("path") if given.get("bytes") is None else given["bytes"]
    try:
        if isinstance(given, list):
            return Image.fromarray(_numbers(given)).convert("RGB")
        if isinstance(given, bytes):
            return Image.open(io.BytesIO(given)).convert("RGB")
        return given.convert("RGB") if isinstance(given, Image.Image) else Image.open(Path(given)).convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError, TypeError, Image.DecompressionBombError) as error:
        raise UsageError(f"{row.place}: the image can't be read", cause=str(error), id="E_DATA") from error


def _numbers(given: list[Any]) -> Any:
    """Height x width (x channels) of 0 to 255; fractions of 0 to 1 are taken as shares of 255.

    Raises:
        ValueError: other numbers.
    """
    found = np.asarray(given)
    if found.ndim == 3 and found.shape[2] == 1:
        found = found[..., 0]
    low, high = found.min(), found.max()
    if found.dtype.kind == "f" and low >= 0 and high <= 1:
        found = np.rint(found * 255)
    elif low < 0 or high > 255 or (found != np.rint(found)).any():
        raise ValueError(f"expected whole numbers of 0 to 255, or fractions of 0 to 1, found {low} to {high}")
    return found.astype("uint8")
