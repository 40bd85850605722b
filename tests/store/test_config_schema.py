"""A method's config schema without jsonschema: what the quick form accepts, jsonschema accepts too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubcli.schema_compiled import compiled

SCHEMAS = sorted((Path(__file__).parents[2] / "plugins").glob("*/config.schema.json"))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 70000)
    # to JSON Schema 1.0 is an integer too: the quick form leaves such a number to jsonschema
    | st.floats(-2, 2).filter(lambda number: not number.is_integer())
    | st.sampled_from(["", "none", "LORA", "a", "x" * 1001])
)
VALUES = (
    SCALARS
    | st.lists(SCALARS, max_size=3)
    | st.dictionaries(st.sampled_from(["a", "b", "x" * 1001]), SCALARS, max_size=2)
)


@pytest.mark.parametrize("file", SCHEMAS, ids=lambda f: f.parent.name)
def test_a_shipped_schema_has_a_quick_form_that_agrees(file: Path) -> None:
    schema = json.loads(file.read_bytes())
    quick, judge = compiled(schema), jsonschema.Draft202012Validator(schema)
    assert quick is not None, "it would cost every install the import of jsonschema"

    @given(st.dictionaries(st.sampled_from(sorted(schema["properties"])), VALUES), st.booleans())
    def agrees(config: dict[str, Any], complete: bool) -> None:
        whole = {"r": 1, "target_modules": ["a"]} | config if complete else config
        assert quick(whole) == judge.is_valid(whole)

    agrees()


def test_a_schema_that_refers_to_itself_is_left_to_the_validator() -> None:
    node = {"type": "object", "additionalProperties": {"$ref": "#/$defs/node"}}
    assert compiled({"$defs": {"node": node}, "$ref": "#/$defs/node"}) is None
