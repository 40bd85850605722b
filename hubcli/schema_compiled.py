"""A JSON Schema as one plain Python function that says yes or no, about ten times faster than a validator.

It covers the keywords that the schemas here use; what it accepts, the schema accepts (1.0 as an integer it leaves to
the validator). A schema with any other keyword has no compiled form.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], bool]


def compiled(schema: Mapping[str, Any]) -> Check | None:
    """The schema as a function, or None where it refers to itself or uses a keyword that has no compiled form."""
    try:
        return _compile(schema, schema.get("$defs", {}), {})
    except (KeyError, RecursionError):
        return None


_TYPES: dict[str, Check] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
}
_NOTES = {"$schema", "$id", "$defs", "title", "description", "$comment", "examples", "default", "if", "then"}


def _compile(schema: Any, defs: Mapping[str, Any], done: dict[str, Check]) -> Check:
    """One check from a schema; raises KeyError on a keyword outside the compiled set."""
    if isinstance(schema, bool):
        return lambda _: schema
    checks = [_KEYWORDS[k](w, schema, defs, done) for k, w in schema.items() if k not in _NOTES]
    if "if" in schema:
        checks.append(_conditional(schema, defs, done))
    if len(checks) == 1:
        return checks[0]
    return _all(checks)


def _all(checks: list[Check]) -> Check:
    def accepts(value: Any) -> bool:
        for check in checks:  # noqa: SIM110 - a third faster than all() over a generator, and this runs for every value
            if not check(value):
                return False
        return True

    return accepts


def _conditional(schema: Any, defs: Mapping[str, Any], done: dict[str, Check]) -> Check:
    if "else" in schema:
        raise KeyError("else")
    condition, then = _compile(schema["if"], defs, done), _compile(schema["then"], defs, done)
    return lambda v: not condition(v) or then(v)


def _type(wanted: Any, *_: Any) -> Check:
    kinds = [_TYPES[kind] for kind in ([wanted] if isinstance(wanted, str) else wanted)]
    return kinds[0] if len(kinds) == 1 else lambda v: any(kind(v) for kind in kinds)


def _ref(wanted: str, _: Any, defs: Mapping[str, Any], done: dict[str, Check]) -> Check:
    name = wanted.removeprefix("#/$defs/")
    if name not in done:
        done[name] = _compile(defs[name], defs, done)
    return done[name]


def _enum(wanted: list[Any], *_: Any) -> Check:
    if not all(isinstance(item, str) or type(item) is int for item in wanted):
        raise KeyError("enum")
    allowed = {(type(item), item) for item in wanted}
    return lambda v: isinstance(v, str | int) and (type(v), v) in allowed


def _pattern(wanted: str, *_: Any) -> Check:
    search = re.compile(wanted).search
    return lambda v: not isinstance(v, str) or search(v) is not None


def _properties(wanted: dict[str, Any], _: Any, defs: Mapping[str, Any], done: dict[str, Check]) -> Check:
    checks = {key: _compile(inner, defs, done) for key, inner in wanted.items()}

    def accepts(value: Any) -> bool:
        if isinstance(value, dict):
            for key, item in value.items():
                if key in checks and not checks[key](item):
                    return False
        return True

    return accepts


def _additional(wanted: Any, schema: Any, defs: Mapping[str, Any], done: dict[str, Check]) -> Check:
    known = frozenset(schema.get("properties", {}))
    inner = _compile(wanted, defs, done)
    return lambda v: not isinstance(v, dict) or all(inner(v[key]) for key in v if key not in known)


def _items(wanted: Any, _: Any, defs: Mapping[str, Any], done: dict[str, Check]) -> Check:
    inner = _compile(wanted, defs, done)
    return lambda v: not isinstance(v, list) or all(map(inner, v))


def _required(wanted: list[str], *_: Any) -> Check:
    return lambda v: not isinstance(v, dict) or all(key in v for key in wanted)


def _all_of(wanted: list[Any], _: Any, defs: Mapping[str, Any], done: dict[str, Check]) -> Check:
    return _all([_compile(inner, defs, done) for inner in wanted])


def _any_of(wanted: list[Any], _: Any, defs: Mapping[str, Any], done: dict[str, Check]) -> Check:
    checks = [_compile(inner, defs, done) for inner in wanted]
    return lambda v: any(c(v) for c in checks)


def _names(wanted: Any, _: Any, defs: Mapping[str, Any], done: dict[str, Check]) -> Check:
    inner = _compile(wanted, defs, done)
    return lambda v: not isinstance(v, dict) or all(map(inner, v))


def _size(kind: Any, least: bool) -> Callable[..., Check]:
    def build(wanted: int, *_: Any) -> Check:
        if least:
            return lambda v: not isinstance(v, kind) or len(v) >= wanted
        return lambda v: not isinstance(v, kind) or len(v) <= wanted

    return build


def _bound(holds: Callable[[Any, Any], bool]) -> Callable[..., Check]:
    def build(wanted: float, *_: Any) -> Check:
        return lambda v: not isinstance(v, int | float) or isinstance(v, bool) or holds(v, wanted)

    return build


_KEYWORDS: dict[str, Callable[..., Check]] = {
    "type": _type,
    "$ref": _ref,
    "enum": _enum,
    "pattern": _pattern,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "required": _required,
    "allOf": _all_of,
    "anyOf": _any_of,
    "propertyNames": _names,
    "minLength": _size(str, True),
    "maxLength": _size(str, False),
    "minItems": _size(list, True),
    "maxItems": _size(list, False),
    "minProperties": _size(dict, True),
    "maxProperties": _size(dict, False),
    "minimum": _bound(operator.ge),
    "maximum": _bound(operator.le),
    "exclusiveMinimum": _bound(operator.gt),
    "exclusiveMaximum": _bound(operator.lt),
}
