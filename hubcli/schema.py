"""Documents against the schemas in `schemas/`: every fault at once, each with field, expected and found.

`jsonschema` is the judge. It takes 50 ms to import and about a millisecond an entry, minutes for a large index, so
documents first meet the same schema compiled to plain Python (`schema_compiled`): what that accepts is valid, and
anything else goes to the judge.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

from hubcli.frozen import frozen
from hubcli.paths import bundled
from hubcli.schema_compiled import Check, compiled


@frozen
class Fault:
    """One thing wrong in a document: `field` is its path (`releases[0].files[1].size`, "" for the whole).

    `unknown` marks a key that the schema does not know: a newer writer's, kept on reading and refused on publishing.
    """

    field: str
    expected: str
    found: str
    id: str = "E_SCHEMA"
    unknown: bool = False

    def __str__(self) -> str:
        return f"{self.field or 'document'}: expected {self.expected}, found {self.found}"


def check(document: Any, schema_name: str, *, where: str = "") -> list[Fault]:
    """All faults of a document against `schemas/<schema_name>.schema.json`, by field; `where` prefixes their fields."""
    accepts = _compiled(schema_name)
    if accepts is not None and accepts(document):
        return []
    return _sorted(_validator(schema_name).iter_errors(document), where)


def faults_of(document: Any, schema: dict[str, Any], *, where: str = "") -> list[Fault]:
    """All faults of a document against a schema that is no file of ours, such as a method's of its config."""
    from jsonschema import Draft202012Validator

    return _sorted(Draft202012Validator(schema).iter_errors(document), where)


def shown(value: Any, limit: int = 60) -> str:
    """A value for a message: ASCII, one line, shortened."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= limit else text[:limit] + "..."


@cache
def load_schema(name: str) -> dict[str, Any]:
    """The schema document of this name."""
    document: dict[str, Any] = json.loads((bundled("schemas") / f"{name}.schema.json").read_bytes())
    return document


@cache
def _compiled(name: str) -> Check | None:
    return compiled(load_schema(name))


@cache
def _validator(name: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(load_schema(name))


def _sorted(errors: Iterable[Any], where: str) -> list[Fault]:
    faults = {fault for error in errors for fault in _faults(error, where)}
    return sorted(faults, key=lambda fault: (fault.field, fault.expected))


def _faults(error: Any, where: str) -> list[Fault]:
    path = where + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path)
    value, wanted, known = error.instance, error.validator_value, error.schema.get("properties", {})
    if error.validator == "required":
        return [Fault(f"{path}.{k}".lstrip("."), _kind(known.get(k, {})), "nothing") for k in wanted if k not in value]
    if error.validator == "additionalProperties" and wanted is False:
        expected = f"one of {', '.join(sorted(known))}"
        extra = [key for key in value if key not in known]
        return [Fault(f"{path}.{shown(k)[1:-1]}".lstrip("."), expected, shown(value[k]), unknown=True) for k in extra]
    return [Fault(path.lstrip("."), _expected(error), _found(error))]


def _kind(schema: Any) -> str:
    kind = schema.get("type", "a value")
    return kind if isinstance(kind, str) else " or ".join(kind)


def _expected(error: Any) -> str:
    keyword, wanted = error.validator, error.validator_value
    if keyword == "type":
        return _kind(error.schema)
    if keyword == "enum":
        return "one of " + ", ".join(map(str, wanted)) if len(wanted) > 1 else str(wanted[0])
    if keyword == "pattern":
        return str(error.schema.get("description") or "text like " + wanted.replace(r"$(?!\n)", "$"))
    if keyword.startswith(("min", "max")):
        unit = {"Length": " characters", "Items": " items", "Properties": " keys"}.get(keyword[3:], "")
        return f"at {'least' if keyword.startswith('min') else 'most'} {wanted}{unit}"
    return f"{keyword} {shown(wanted)}"


def _found(error: Any) -> str:
    sized = error.validator.endswith(("Length", "Items", "Properties"))
    return str(len(error.instance)) if sized else shown(error.instance)
