"""Handwritten digits of 8x8 pixels, as two tasks that share no class: one to train a base on, one to adapt it to."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections import Counter
from collections.abc import Callable

from recipes.data.archive import Archive, Archives
from recipes.data.dataset import Dataset, Made
from recipes.data.rows import Row, once, split

PACKAGE = Archive(
    "scikit-learn",
    "1.9.1",
    "scikit_learn-1.9.1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
    "BSD-3-Clause",
)
TABLE = "sklearn/datasets/data/digits.csv.gz"
SIDE, DARKEST = 8, 16


def builder(first: int, last: int) -> Callable[[Archives], Made]:
    def build(archives: Archives) -> Made:
        dropped: Counter[str] = Counter()
        rows: list[Row] = []
        for line in gzip.decompress(archives.open(PACKAGE).read(TABLE)).decode().splitlines():
            *pixels, label = (int(float(value)) for value in line.split(","))
            if first <= label <= last:
                rows.append({"label": str(label), "pixels": pixels})
            else:
                dropped["the other task's digits"] += 1
        keyed = once(rows, lambda row: " ".join(map(str, row["pixels"])), dropped)
        files = {}
        for place, row in enumerate(keyed.values()):
            row["path"] = f"images/{place:04}.png"
            files[row["path"]] = png(row.pop("pixels"))
        return Made(split(keyed), dropped, files)

    return build


def png(pixels: list[int]) -> bytes:
    """A grey image, 0 to 16 made 0 to 255; stored, not compressed: the same bytes with every zlib."""
    lines = [pixels[start : start + SIDE] for start in range(0, SIDE * SIDE, SIDE)]
    raw = b"".join(b"\0" + bytes(round(value * 255 / DARKEST) for value in line) for line in lines)
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(raw, 0)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def digits(name: str, first: int, last: int, use: str) -> Dataset:
    return Dataset(
        name,
        f"Handwritten digits {first} to {last}, grey images of 8x8 pixels, {use}; paths are relative to the folder.",
        (PACKAGE,),
        "BSD-3-Clause (package); the data set itself CC-BY-4.0",
        "Alpaydin, E. & Kaynak, C. (1998). Optical Recognition of Handwritten Digits. UCI Machine Learning Repository.",
        ("path", "label"),
        builder(first, last),
        "the 64 pixels, 0 to 16, as decimals with a space between",
        label="label",
    )


DATASETS = (
    digits("digits-low", 0, 4, "to train a small base on"),
    digits("digits-high", 5, 9, "to adapt that base to"),
)
