"""The header reader against the format's own library, and beyond it where the library is lenient."""

from __future__ import annotations

import io
import json
import math
import struct
import time
from typing import Any

import pytest
import safetensors
from hypothesis import given
from hypothesis import strategies as st

from hubcli import safetensors_header
from hubcli.errors import SafetensorsError
from hubcli.safetensors_header import BITS, TensorInfo, nonfinite, read_header
from tests.store.samples import safetensors as build
from tests.store.samples import with_header


def tensor(start: int = 0, end: int = 4, shape: Any = (1,), dtype: Any = "F32", **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end], **more}


def made(tensors: dict[str, Any] | bytes, size: int = 4) -> bytes:
    return with_header(tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode(), bytes(size))


def raw(length: int, rest: bytes = b"{}") -> bytes:
    return struct.pack("<Q", length) + rest


ONE = b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
BAD: dict[str, tuple[bytes, str]] = {
    "19 length 2^63": (raw(2**63), "E_ST_HEADER"),
    "19 length 2^64-1": (raw(2**64 - 1), "E_ST_HEADER"),
    "19 length 100 MB + 1": (raw(100_000_001), "E_ST_HEADER"),
    "19 longer than the file": (raw(3), "E_ST_HEADER"),
    "19 length 0": (raw(0), "E_ST_HEADER"),
    "19 no header": (b"1234567", "E_ST_HEADER"),
    "19 empty": (b"", "E_ST_HEADER"),
    "19 bad UTF-8": (with_header(b'{"\xff": 1}'), "E_ST_HEADER"),
    "19 no JSON": (with_header(b"{"), "E_ST_HEADER"),
    "19 no object": (with_header(b"[]"), "E_ST_HEADER"),
    "21 hole": (made({"a": tensor(4, 8)}, 8), "E_ST_LAYOUT"),
    "21 hole between": (made({"a": tensor(0, 4), "b": tensor(8, 12)}, 12), "E_ST_LAYOUT"),
    "21 overlap": (made({"a": tensor(0, 4), "b": tensor(2, 6)}, 6), "E_ST_LAYOUT"),
    "21 the same bytes twice": (made({"a": tensor(0, 4), "b": tensor(0, 4)}, 4), "E_ST_LAYOUT"),
    "21 reversed": (made({"a": tensor(4, 0)}), "E_ST_LAYOUT"),
    "21 trailing bytes": (made({"a": tensor()}, 5), "E_ST_LAYOUT"),
    "21 data missing": (made({"a": tensor()}, 3), "E_ST_LAYOUT"),
    "21 shape overflow": (made({"a": tensor(shape=(2**31 - 1,) * 4)}), "E_ST_SHAPE"),
    "21 shape of other size": (made({"a": tensor(shape=(2,))}), "E_ST_SHAPE"),
    "21 negative size": (made({"a": tensor(shape=(-1, -1))}), "E_ST_SHAPE"),
    "21 negative offset": (made({"a": tensor(-4, 0)}), "E_ST_LAYOUT"),
    "21 unknown dtype": (made({"a": tensor(dtype="F31")}), "E_ST_HEADER"),
    "21 dtype is a list": (made({"a": tensor(dtype=["F32"])}), "E_ST_HEADER"),
    "21 fraction": (made({"a": tensor(shape=(1.0,))}), "E_ST_HEADER"),
    "21 NaN": (made(b'{"a": NaN}'), "E_ST_HEADER"),
    "21 true as a size": (made({"a": tensor(shape=(True,))}), "E_ST_SHAPE"),
    "21 deep JSON": (made(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "E_ST_HEADER"),
    "21 long number": (made(b'{"a":' + b"9" * 5000 + b"}"), "E_ST_HEADER"),
    "21 metadata is a number": (made({"__metadata__": {"a": 1}, "a": tensor()}), "E_ST_HEADER"),
    "21 field missing": (made({"a": {"dtype": "F32", "shape": [1]}}), "E_ST_HEADER"),
    "21 field unknown": (made({"a": tensor(more=1)}), "E_ST_HEADER"),
    "21 three offsets": (made({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2, 4]}}), "E_ST_LAYOUT"),
}  # fmt: skip
LENIENT: dict[str, tuple[bytes, str]] = {
    "22 key twice": (made(ONE + b"," + ONE[1:] + b"}"), "E_ST_DUPKEY"),
    "22 field twice": (made(ONE[:-1] + b',"dtype": "F32"}}'), "E_ST_DUPKEY"),
    "22 leading space": (made({" a": tensor()}), "E_ST_NAME"),
    "22 path": (made({"../../x": tensor()}), "E_ST_NAME"),
    "22 NUL": (made({"a\0": tensor()}), "E_ST_NAME"),
    "22 escape": (made({"\x1b[31m": tensor()}), "E_ST_NAME"),
    "22 no name": (made({"": tensor()}), "E_ST_NAME"),
    "22 0 times 2^60": (made({"a": tensor(0, 0, (0, 2**60))}, 0), "E_ST_SHAPE"),
    "20 name of 257": (made({"n" * 257: tensor()}), "E_ST_NAME"),
    "20 header over 8 MiB": (made(b"{" + b" " * (8 << 20) + b"}", 0), "E_ST_LIMIT"),
    "20 50,001 tensors": (made({f"{n}": tensor(0, 0, (0,)) for n in range(50_001)}, 0), "E_ST_LIMIT"),
}


def library_accepts(data: bytes) -> bool:
    try:
        safetensors.deserialize(data)
    except (safetensors.SafetensorError, Exception):
        return False
    return True


@pytest.mark.parametrize(("data", "id"), [*BAD.values(), *LENIENT.values()], ids=[*BAD, *LENIENT])
def test_rows_19_to_22_bad_headers_are_refused_fast(data: bytes, id: str) -> None:
    start = time.process_time()
    with pytest.raises(SafetensorsError) as caught:
        read_header(io.BytesIO(data))
    assert caught.value.id == id and caught.value.message.isprintable()
    assert time.process_time() - start < 1


class Counting(io.BytesIO):
    most = 0

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None and size >= 0
        self.most = max(self.most, size)
        return super().read(size)


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 100_000_001, (8 << 20) + 1])
def test_row_19_the_length_is_checked_before_anything_is_read(length: int) -> None:
    file = Counting(raw(length, b"{}" + bytes(9 << 20)))
    with pytest.raises(SafetensorsError):
        read_header(file)
    assert file.most == 8


@pytest.mark.parametrize("data", [d for d, _ in BAD.values()], ids=BAD)
def test_what_breaks_the_format_the_library_refuses_too(data: bytes) -> None:
    stricter = {"21 field unknown"}
    name = next(name for name, (other, _) in BAD.items() if other is data)
    assert not library_accepts(data) or name in stricter


SHAPES = st.lists(st.integers(0, 3), max_size=3)
DTYPES = st.sampled_from(["BOOL", "U8", "I8", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "I64", "U64", "F64"])


@given(
    st.lists(st.tuples(DTYPES, SHAPES), max_size=6), st.dictionaries(st.text("abc", max_size=3), st.text(max_size=3))
)
def test_a_proper_file_reads_as_the_library_reads_it(
    kinds: list[tuple[str, list[int]]], metadata: dict[str, str]
) -> None:
    tensors = {f"t{n}": (d, shape, bytes(math.prod(shape) * BITS[d] // 8)) for n, (d, shape) in enumerate(kinds)}
    data = build(tensors, metadata)
    header = read_header(io.BytesIO(data))
    theirs = {
        name: (info["dtype"], list(info["shape"]), bytes(info["data"])) for name, info in safetensors.deserialize(data)
    }
    ours = {
        name: (t.dtype, list(t.shape), data[header.data_start + t.start : header.data_start + t.end])
        for name, t in header.tensors.items()
    }
    assert ours == theirs and header.metadata == metadata


@given(st.binary(max_size=60), st.integers(0, 120))
def test_no_bytes_make_it_fail_in_another_way(noise: bytes, at: int) -> None:
    data = build({"a": ("F32", [2], bytes(8)), "b": ("F16", [1], bytes(2))})
    broken = data[:at] + noise + data[at + len(noise) :]
    try:
        header = read_header(io.BytesIO(broken))
    except SafetensorsError:
        return
    assert all(0 <= t.start <= t.end <= len(broken) for t in header.tensors.values())


FORMATS = {"F32": ("f", 4), "F64": ("d", 8), "F16": ("e", 2)}


@given(st.sampled_from(list(FORMATS)), st.data())
def test_nonfinite_agrees_with_arithmetic(dtype: str, data: Any) -> None:
    letter, size = FORMATS[dtype]
    items = data.draw(st.lists(st.binary(min_size=size, max_size=size), min_size=1, max_size=8))
    joined = b"".join(items)
    file = io.BytesIO(build({"a": ("F32", [1], bytes(4)), "b": (dtype, [len(items)], joined)}))
    finite = all(math.isfinite(n) for n in struct.unpack(f"<{len(items)}{letter}", joined))
    assert nonfinite(file, read_header(file)) == (None if finite else "b")


@given(st.lists(st.binary(min_size=2, max_size=2), min_size=1, max_size=8))
def test_nonfinite_agrees_for_bfloat16(items: list[bytes]) -> None:
    file = io.BytesIO(build({"b": ("BF16", [len(items)], b"".join(items))}))
    finite = all(math.isfinite(struct.unpack("<f", b"\0\0" + item)[0]) for item in items)
    assert nonfinite(file, read_header(file)) == (None if finite else "b")


def test_nonfinite_sees_the_last_item_behind_many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors_header, "CHUNK", 1024)
    numbers = struct.pack("<2000f", *([3.4e38] * 1999), math.inf)
    file = io.BytesIO(build({"x": ("I32", [1], b"\xff" * 4), "b": ("F32", [2000], numbers)}))
    header = read_header(file)
    assert header.tensors["b"] == TensorInfo("F32", (2000,), 4, 8004) and nonfinite(file, header) == "b"
