"""Reading a YAML card from outside: every value a text, a list or an object; nothing is resolved, built or expanded.

A card is parsed into events and put together here, so that nesting takes no recursion. Refused are: what is over the size
limit, tags, anchors and aliases, merge keys, keys that stand twice, nesting over `MAX_DEPTH` levels, more than one document, and
the characters that no text from outside may hold. `no` and `1.0` stay the texts that they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hubcli.errors import EntryError
from hubcli.strict_json import bad_text

MAX_CARD = 256 * 1024
MAX_DEPTH = 8
_NOTHING = ("", "~", "null", "Null", "NULL")


def read_card(raw: bytes, where: str) -> dict[str, Any]:
    """The card as an object whose leaves are texts, or None where nothing stands.

    Raises:
        EntryError: E_JSON_SIZE, E_JSON_TEXT, E_JSON_DUPKEY, E_JSON_DEPTH; E_SCHEMA for what is no card at all.
    """
    if len(raw) > MAX_CARD:
        raise EntryError(f"{where}: expected at most {MAX_CARD:,} bytes, found {len(raw):,}", id="E_JSON_SIZE")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EntryError(f"{where}: expected UTF-8, found byte 0x{raw[error.start]:02x}", id="E_JSON_TEXT") from None
    if (bad := bad_text(text)) is not None:
        raise EntryError(f"{where}: character {bad} is not allowed in text", id="E_JSON_TEXT")
    found = _tree(_events(text, where), where)
    if not isinstance(found, dict):
        raise EntryError(f"{where}: expected an object of fields")
    return found


def _events(text: str, where: str) -> Iterator[Any]:
    import yaml  # type: ignore[import-untyped]

    try:
        yield from yaml.parse(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise EntryError(f"{where}: not YAML{f' at line {mark.line + 1}' if mark else ''}") from None


def _tree(events: Iterator[Any], where: str) -> Any:
    """The document that the events spell. An open container is a list; a mapping's is closed into pairs."""
    open_containers: list[list[Any]] = [[]]
    for event in events:
        kind = type(event).__name__
        if kind == "AliasEvent" or getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise EntryError(f"{where}: anchors, aliases and tags are not read (line {event.start_mark.line + 1})")
        if kind in ("MappingStartEvent", "SequenceStartEvent"):
            if len(open_containers) > MAX_DEPTH:
                raise EntryError(f"{where}: nested more than {MAX_DEPTH} levels deep", id="E_JSON_DEPTH")
            open_containers.append([])
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            closed = open_containers.pop()
            open_containers[-1].append(_object(closed, where) if kind == "MappingEndEvent" else closed)
        elif kind == "ScalarEvent":
            open_containers[-1].append(_scalar(event, where))
    documents = open_containers[0]
    if len(documents) != 1:
        raise EntryError(f"{where}: expected one YAML document, found {len(documents)}")
    return documents[0]


def _scalar(event: Any, where: str) -> str | None:
    """A text; an escape may have spelled what the file itself may not hold."""
    value = str(event.value)
    if (bad := bad_text(value)) is not None:
        raise EntryError(f"{where}: character {bad} is not allowed in text", id="E_JSON_TEXT")
    return None if not event.style and value in _NOTHING else value


def _object(flat: list[Any], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        if not isinstance(key, str) or key == "<<":
            raise EntryError(f"{where}: expected plain texts as keys, found {ascii(key)[:60]}")
        if key in found:
            raise EntryError(f"{where}: key {key[:80]!a} stands twice in one object", id="E_JSON_DUPKEY")
        found[key] = value
    return found
