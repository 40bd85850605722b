"""A release joins its entry: what the file says of others stays as it is, to the byte, and nothing published changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hubcli.errors import EntryError
from hubcli.index.changes import MUTABLE, changes
from hubcli.index.entries import check_entry, dump, raise_faults
from hubcli.manifest import ENTRY_V, Release
from hubcli.publishing import checks
from hubcli.publishing.draft import Draft
from hubcli.schema import shown

Json = dict[str, Any]
_INDENT = 4  # of a release within an entry that is indented by 2


def joined(draft: Draft, release: Release, entry: bytes | None) -> bytes:
    """The entry's file with the release as its newest.

    Raises:
        EntryError: the entry is of another kind (E_IMMUTABLE), or what comes out breaks a rule of entries.
    """
    where = f"{draft.name}.json"
    document = checks.plain(release)
    if entry is None:
        whole = {"v": ENTRY_V, "kind": draft.kind, "name": draft.name, "description": draft.description}
        data = dump({**whole, "authors": [*draft.authors], "releases": [document]})
        old = None
    else:
        old = parsed(entry, draft.name)
        told = {"description": draft.description, "authors": [*draft.authors]}
        said = {key: value for key, value in told.items() if old[key] != value}
        data = _spliced(entry.decode(), said, document).encode()
    checked = check_entry(data, name=draft.name, where=where)
    raise_faults(where, checked.faults + checked.unknown)
    if old is not None and checked.document is not None:
        raise_faults(where, tuple(changes({**old, "kind": old["kind"]}, {**checked.document, "kind": draft.kind})))
    return data


def has(entry: bytes | None, draft: Draft, release: Release, *, where: str) -> bool:
    """Whether an entry has this very release already.

    Raises:
        EntryError: E_IMMUTABLE, it has this version with another content; names what differs.
    """
    theirs = release_in(entry, draft.name, release.version)
    if entry is None or theirs is None:
        return False
    old = parsed(entry, draft.name)
    if not draft.files:  # no commit dates it
        release = replace(release, published=theirs.published)
    faults = changes({"releases": [_fixed(theirs)]}, {"releases": [_fixed(release)]})
    if old["kind"] != draft.kind or faults or theirs.version != release.version:
        differs = "; ".join(map(str, faults[:3])) or f"kind {old['kind']}, version {shown(theirs.version)}"
        message = f"{where} has {draft.name} {theirs.version} already, and a version never changes: {differs}"
        raise EntryError(message, hint="take the next --version", id="E_IMMUTABLE")
    return True


def release_in(entry: bytes | None, name: str, version: str) -> Release | None:
    """The release of a version in an entry; build metadata does not count.

    Raises:
        EntryError: the entry breaks a rule.
    """
    bare = version.partition("+")[0]
    releases = parsed(entry, name)["releases"] if entry is not None else ()
    found = next((release for release in releases if release["version"].partition("+")[0] == bare), None)
    return Release.from_json(found) if found is not None else None


def _fixed(release: Release) -> Json:
    """All of a release that never changes, in one form."""
    return {key: value for key, value in json.loads(json.dumps(release.to_json())).items() if key not in MUTABLE}


def parsed(entry: bytes, name: str) -> Json:
    """The document of an entry.

    Raises:
        EntryError: it breaks a rule.
    """
    checked = check_entry(entry, name=name, where=f"{name}.json")
    raise_faults(f"{name}.json", checked.faults)
    assert checked.document is not None, "a document without faults"
    return checked.document


def _dumped(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _spliced(text: str, said: Mapping[str, Any], release: Json) -> str:
    """The text of an entry with some of its values said anew and a release added; all else as it stands."""
    spans = _values(text)
    inserted = ",\n" + _indented(_dumped(release), _INDENT)
    edits = [(spans[key], _indented(_dumped(value), 2).lstrip()) for key, value in said.items()]
    last = _elements(text, spans["releases"][0])[-1][1]
    edits.append(((last, last), inserted))
    for (start, end), new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _indented(text: str, by: int) -> str:
    return "\n".join(" " * by + line for line in text.split("\n"))


def _values(text: str) -> dict[str, tuple[int, int]]:
    """Key → where its value stands, of an object's text that is known to be JSON."""
    found: dict[str, tuple[int, int]] = {}
    at = _next(text, _next(text, 0) + 1)
    while text[at] != "}":
        key, at = _read(text, at)
        start = _next(text, _next(text, at) + 1)
        _, at = _read(text, start)
        found[str(key)] = (start, at)
        at = _next(text, at)
        at = _next(text, at + 1) if text[at] == "," else at
    return found


def _elements(text: str, at: int) -> list[tuple[int, int]]:
    """Where each element of an array stands."""
    found: list[tuple[int, int]] = []
    at = _next(text, at + 1)
    while text[at] != "]":
        start = at
        _, end = _read(text, start)
        found.append((start, end))
        at = _next(text, end)
        at = _next(text, at + 1) if text[at] == "," else at
    return found


def _read(text: str, at: int) -> tuple[Any, int]:
    return json.JSONDecoder().raw_decode(text, at)


def _next(text: str, at: int) -> int:
    """The next character that is no space."""
    while text[at] in " \t\r\n":
        at += 1
    return at
