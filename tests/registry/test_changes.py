"""What is published stays, to the letter: what JSON tells apart is told apart."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubcli.index.changes import MUTABLE, NULLABLE, changes
from hubcli.schema import load_schema
from tests.registry.entrydocs import entry, release

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, -0.0, 1.0, 2.5, 1e-7]) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def of(value: object) -> dict[str, Any]:
    return {"releases": [{"version": "1.0.0", "training": {"x": value}}]}


@given(VALUES, VALUES)
def test_only_the_same_json_is_the_same(old: object, new: object) -> None:
    same = json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)
    assert (changes(of(old), of(new)) == []) == same and changes(of(old), of(copy.deepcopy(old))) == []


@pytest.mark.parametrize(
    ("old", "new", "field", "found"),
    [
        ({"r": 8}, {"r": 8.0}, ".r", "8.0"),
        ({"r": 1}, {"r": True}, ".r", "true"),
        ({"r": 8}, {"r": 8, "bias": None}, ".bias", "null"),
        ({"r": 8, "bias": None}, {"r": 8}, ".bias", "nothing"),
        ({"modules": ["query"]}, {"modules": ["query", None]}, ".modules[1]", "null"),
        ({"modules": [None]}, {"modules": []}, ".modules[0]", "nothing"),
        ({"r": {}}, {"r": {"x": None}}, ".r.x", "null"),
    ],
)
def test_what_of_a_config_is_other(old: object, new: object, field: str, found: str) -> None:
    (fault,) = changes(entry("acme/legal", release(method_config=old)), entry("acme/legal", release(method_config=new)))
    assert (fault.id, fault.field, fault.found) == ("E_IMMUTABLE", f"releases[0].method_config{field}", found)


def test_null_is_none_where_the_schema_says_so_of_a_release() -> None:
    schema = load_schema("index-entry")
    fields = schema["$defs"]["release"]["properties"]
    kinds = {
        name: schema["$defs"].get(str(f.get("$ref")).rpartition("/")[2], f).get("type") for name, f in fields.items()
    }
    nullable = {name for name, kind in kinds.items() if isinstance(kind, list) and "null" in kind}
    assert nullable - {*MUTABLE} == {*NULLABLE}
    bare = {k: v for k, v in release().items() if k not in NULLABLE}
    full = {**bare, **dict.fromkeys(NULLABLE)}
    assert (
        changes({"releases": [bare]}, {"releases": [full]}) == changes({"releases": [full]}, {"releases": [bare]}) == []
    )


@pytest.mark.parametrize("version", [[], {}, None, 7, True])
def test_a_version_that_is_no_text_is_compared_too(version: object) -> None:
    broken = {"releases": [{"version": version}]}
    assert changes(broken, broken) == []
    assert [
        fault.id for fault in changes(entry("acme/legal"), {"kind": "adapter", "name": "acme/legal", **broken})
    ] == ["E_IMMUTABLE"]
