"""Reading the header of a safetensors file with the standard library: the format's rules, and limits of our own.

Checked before anything is allocated for it: a header of at most 8 MiB. Then: at most 50,000 tensors, names of at most 256
characters without control characters, leading spaces or `..`, no key twice, known dtypes, shapes whose bytes are exactly the
stated range, and ranges that cover the file without hole, overlap or trailing bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, NoReturn

from hubcli.errors import SafetensorsError

MAX_HEADER = 8 << 20
MAX_TENSORS = 50_000
MAX_NAME = 256
MAX_DIMENSION = 2**31 - 1
MAX_AXES = 16
CHUNK = 4 << 20
BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}


class TensorInfo(NamedTuple):
    """One tensor: `start` and `end` are byte positions after `Header.data_start`."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class Header(NamedTuple):
    """What a file's header says; tensors by name in order of their bytes. `data_start` is where the first byte of data lies."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    data_start: int


def read_header(file: BinaryIO) -> Header:
    """Read and check the header of an open safetensors file.

    Raises:
        SafetensorsError: E_ST_HEADER, E_ST_LIMIT, E_ST_NAME, E_ST_DUPKEY, E_ST_SHAPE or E_ST_LAYOUT.
    """
    file.seek(0, os.SEEK_END)
    size = file.tell()
    file.seek(0)
    start = file.read(8)
    if len(start) < 8:
        _bad(f"expected a safetensors file, found {size} bytes")
    length = int.from_bytes(start, "little")
    if length > size - 8:
        _bad(f"the header is said to take {length} bytes, the file has {size}")
    if length > MAX_HEADER:
        _bad(f"the header takes {length} bytes, at most {MAX_HEADER} are allowed", "E_ST_LIMIT")
    document = _parse(file.read(length))
    metadata = _metadata(document.pop("__metadata__", {}))
    if len(document) > MAX_TENSORS:
        _bad(f"{len(document)} tensors, at most {MAX_TENSORS} are allowed", "E_ST_LIMIT")
    tensors = {name: _tensor(name, entry) for name, entry in document.items()}
    return Header(_covering(tensors, size - 8 - length), metadata, 8 + length)


def _bad(message: str, id: str | None = None) -> NoReturn:
    raise SafetensorsError(f"safetensors header: {message}", id=id)


def _parse(data: bytes) -> dict[str, Any]:
    if not data.startswith(b"{"):
        _bad("expected a JSON object" + (", found nothing" if not data else ""))
    try:
        document = json.loads(
            data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_number, parse_float=_number
        )
    except RecursionError:
        _bad("nested too deep")
    except ValueError as error:
        _bad(f"not JSON in UTF-8: {str(error).splitlines()[0][:120]}")
    if not isinstance(document, dict):
        _bad("expected a JSON object")
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                _bad(f"key {ascii(key)[:80]} stands twice", "E_ST_DUPKEY")
            seen.add(key)
    return result


def _number(text: str) -> NoReturn:
    _bad(f"expected whole numbers, found {text[:40]}")


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        _bad("__metadata__: expected texts by name")
    return value


def _tensor(name: str, entry: Any) -> TensorInfo:
    _check_name(name)
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        _bad(f"tensor {name[:80]}: expected dtype, shape, data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        _bad(f"tensor {name[:80]}: unknown dtype {ascii(dtype)[:40]}")
    if not _whole_numbers(shape) or len(shape) > MAX_AXES or any(n > MAX_DIMENSION for n in shape):
        found = ascii(shape)[:60]
        _bad(
            f"tensor {name[:80]}: shape {found}: expected at most {MAX_AXES} sizes from 0 to {MAX_DIMENSION}",
            "E_ST_SHAPE",
        )
    if not _whole_numbers(offsets) or len(offsets) != 2:
        _bad(f"tensor {name[:80]}: data_offsets {ascii(offsets)[:60]}: expected two positions", "E_ST_LAYOUT")
    start, end = offsets
    if end < start:
        _bad(f"tensor {name[:80]}: its bytes end at {end}, before they start at {start}", "E_ST_LAYOUT")
    bits = BITS[dtype]
    for n in shape:
        bits *= n
    if bits != (end - start) * 8:
        _bad(
            f"tensor {name[:80]}: {dtype} {shape} takes {bits / 8:g} bytes, data_offsets give {end - start}",
            "E_ST_SHAPE",
        )
    return TensorInfo(dtype, tuple(shape), start, end)


def _check_name(name: str) -> None:
    if not 0 < len(name) <= MAX_NAME:
        _bad(f"a tensor's name has {len(name)} characters, expected 1 to {MAX_NAME}", "E_ST_NAME")
    if name[0] == " " or ".." in name or "\\" in name or not name.isprintable():
        _bad(
            f"tensor name {ascii(name)[:80]}: control characters, '..', '\\' and a leading space are not allowed",
            "E_ST_NAME",
        )


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _covering(tensors: dict[str, TensorInfo], size: int) -> dict[str, TensorInfo]:
    """The tensors in order of their bytes, which must fill `size` bytes one after another."""
    position = 0
    ordered = sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end))
    for name, info in ordered:
        if info.start != position:
            what = "overlaps the one before" if info.start < position else "leaves a hole before it"
            _bad(f"tensor {name[:80]} starts at {info.start}, expected {position}: it {what}", "E_ST_LAYOUT")
        position = info.end
    if position != size:
        _bad(f"the tensors take {position} bytes, the file has {size} of data", "E_ST_LAYOUT")
    return dict(ordered)


# Infinities and NaNs have an exponent of ones. In little-endian bytes: (item bytes, (byte, values that it takes there), …).
_HIGH = frozenset((0x7F, 0xFF))
_TOP = frozenset(range(0x80, 0x100))
_F32 = (4, ((3, _HIGH), (2, _TOP)))
_EXPONENTS: dict[str, tuple[int, tuple[tuple[int, frozenset[int]], ...]]] = {
    "F32": _F32,
    "C64": _F32,
    "BF16": (2, ((1, _HIGH), (0, _TOP))),
    "F16": (2, ((1, frozenset(b for b in range(256) if b & 0x7C == 0x7C)),)),
    "F64": (8, ((7, _HIGH), (6, frozenset(range(0xF0, 0x100))))),
}


def nonfinite(file: BinaryIO, header: Header) -> str | None:
    """The name of the first tensor that holds a NaN or an infinity, or None. Reads the data once, in pieces."""
    for name, info in header.tensors.items():
        layout = _EXPONENTS.get(info.dtype)
        if layout and any(_has_nonfinite(piece, *layout) for piece in _pieces(file, header.data_start, info)):
            return name
    return None


def _pieces(file: BinaryIO, data_start: int, info: TensorInfo) -> Iterator[bytes]:
    file.seek(data_start + info.start)
    left = info.end - info.start
    while left:
        data = file.read(min(left, CHUNK))
        if not data:
            _bad("the file ends before its last tensor", "E_ST_LAYOUT")
        left -= len(data)
        yield data


def _marks(values: frozenset[int]) -> bytes:
    return bytes(1 if byte in values else 0 for byte in range(256))


_TABLES = {values: _marks(values) for _, parts in _EXPONENTS.values() for _, values in parts}


def _has_nonfinite(data: bytes, item: int, parts: tuple[tuple[int, frozenset[int]], ...]) -> bool:
    """Whether one item has all its marked bytes; most pieces end at the first, where no byte is marked at all."""
    both = -1
    for position, values in parts:
        marked = data[position::item].translate(_TABLES[values])
        if b"\x01" not in marked:
            return False
        both &= int.from_bytes(marked, "little")
    return both != 0
