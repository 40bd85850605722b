"""THREATS 8 and 9: documents that `json` would take."""

from __future__ import annotations

import json
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubcli import strict_json
from hubcli.errors import EntryError

LIMIT = 2_000_000
HOSTILE = {
    "duplicate key": (b'{"sha256": "good", "a": {"x": 1, "x": 2}}', "E_JSON_DUPKEY"),
    "escaped duplicate": (b'{"a": 1, "\\u0061": 2}', "E_JSON_DUPKEY"),
    "NaN": (b'{"a": NaN}', "E_JSON_NUMBER"),
    "Infinity": (b"[-Infinity]", "E_JSON_NUMBER"),
    "1e999": (b"[1e999]", "E_JSON_NUMBER"),
    "5,000 digits": (b"[" + b"9" * 5000 + b"]", "E_JSON_NUMBER"),
    "100,000 deep": (b"[" * 100_000 + b"]" * 100_000, "E_JSON_DEPTH"),
    "100,000 objects deep": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "E_JSON_DEPTH"),
    "65 deep": (b"[" * 65 + b"]" * 65, "E_JSON_DEPTH"),
    "lone surrogate": (b'["\\ud800"]', "E_JSON_TEXT"),
    "surrogate bytes": (b'["\xed\xa0\x80"]', "E_JSON_TEXT"),
    "BOM": (b"\xef\xbb\xbf{}", "E_JSON_TEXT"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "E_JSON_TEXT"),
    "escape sequence": (b'["\\u001b[31m"]', "E_JSON_TEXT"),
    "escape sequence in a key": (b'{"\\u001b[31m": 1}', "E_JSON_TEXT"),
    "C1 control": ('["\x9b31m"]'.encode(), "E_JSON_TEXT"),
    "right-to-left override": ('["\u202eabc"]'.encode(), "E_JSON_TEXT"),
    "escaped override": (b'["\\u202Eabc"]', "E_JSON_TEXT"),
    "NUL": (b'["\\u0000"]', "E_JSON_TEXT"),
    "syntax": (b'{"a": 1,\n "b" 2}', "E_JSON_SYNTAX"),
    "raw control": (b'["a\nb"]', "E_JSON_SYNTAX"),
    "empty": (b"", "E_JSON_SYNTAX"),
    "two documents": (b"{} {}", "E_JSON_SYNTAX"),
    "too big": (b'"' + b"x" * LIMIT + b'"', "E_JSON_SIZE"),
}


@pytest.mark.parametrize("data, id", HOSTILE.values(), ids=HOSTILE)
def test_hostile_documents_are_refused_fast_and_in_little_memory(data: bytes, id: str) -> None:
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(EntryError) as error:
        strict_json.loads(data, where="acme/legal.json", limit=LIMIT)
    spent, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error.value.id == id
    assert error.value.message.startswith("acme/legal.json: ")
    assert error.value.message.isprintable() and len(error.value.message) < 200
    assert spent < 1 and peak < 64e6


def test_a_syntax_error_names_line_and_column() -> None:
    with pytest.raises(EntryError, match="line 2, column 6"):
        strict_json.loads(b'{"a": 1,\n "b" 2}', where="x", limit=99)


def test_a_big_file_is_not_read(tmp_path) -> None:
    file = tmp_path / "big.json"
    with file.open("wb") as stream:
        stream.truncate(1 << 30)
    tracemalloc.start()
    with pytest.raises(EntryError, match=str(1 << 30)) as error:
        strict_json.read(file, limit=LIMIT)
    assert error.value.id == "E_JSON_SIZE" and tracemalloc.get_traced_memory()[1] < 16e6
    tracemalloc.stop()


def test_64_levels_and_ordinary_text_pass() -> None:
    deep = b"[" * 64 + b'"\\n\\t"' + b"]" * 64
    assert strict_json.loads(deep, where="x", limit=999)
    text = 'naïve 漢字 😀 "q" \\ / عربي'
    assert strict_json.loads(json.dumps(text).encode(), where="x", limit=999) == text


plain = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"]))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | plain
)
documents = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(plain, inner, max_size=4))


@given(documents)
def test_what_json_writes_is_read_back(document: object) -> None:
    assert strict_json.loads(json.dumps(document).encode(), where="x", limit=10**6) == json.loads(json.dumps(document))
