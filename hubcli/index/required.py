"""What the compositions and fusions of an index require, held against the entries that it has itself.

An install takes a name from the first index that has it. So whoever has this index alone, or first, gets a required name that is
here from here, and needs a version here that the range allows. A name that is not here may come from another index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hubcli.errors import RefError
from hubcli.index.changes import dicts
from hubcli.schema import Fault, shown
from hubcli.versions import Range, in_order

Json = dict[str, Any]


def unmet(documents: Mapping[str, Any]) -> Iterator[tuple[str, Fault]]:
    """(file, fault) of ranges that no version here is in. What is yanked or quarantined counts: withdrawing breaks no rule."""
    for name, number, _, required, spec in _ranges(documents):
        if required in documents and not _allowed(documents[required], spec):
            known = ", ".join(_versions(documents[required])) or "none"
            expected = f"a range that a version here is in (there are: {known})"
            yield (
                f"{name}.json",
                Fault(f"releases[{number}].requires.{required}", expected, shown(spec), "E_REQUIRES"),
            )


def doubts(documents: Mapping[str, Any]) -> Iterator[str]:
    """What is no fault, a line each: names of other indexes, and ranges whose every version is withdrawn."""
    away: dict[str, list[str]] = {}
    for name, _, release, required, spec in _ranges(documents):
        if required not in documents:
            away.setdefault(required, []).append(name)
            continue
        fits = _allowed(documents[required], spec)
        exact = Range(spec).exact is not None
        if fits and all(r.get("status") == "quarantined" or (r.get("yanked") and not exact) for r in fits):
            yield f"{name} {release.get('version')} can't be installed: it requires {required} {spec}, which is withdrawn"
    for required, users in away.items():
        named = ", ".join(dict.fromkeys(users))
        yield f"{required} is in another index, or in none: who installs {named} needs it from there"


def _ranges(documents: Mapping[str, Any]) -> Iterator[tuple[str, int, Json, str, str]]:
    """(entry, number, release, name, range) of all that releases require which are not withdrawn themselves."""
    for name, document in documents.items():
        if document.get("kind") == "adapter":
            continue
        for number, release in enumerate(dicts(document.get("releases"))):
            requires = release.get("requires")
            if isinstance(requires, dict) and not release.get("yanked") and release.get("status") != "quarantined":
                for required, spec in requires.items():
                    if _is_range(spec):
                        yield name, number, release, required, spec


def _is_range(spec: Any) -> bool:
    """Whether it can be read; one that can't is a fault of the entry."""
    try:
        return isinstance(spec, str) and Range(spec) is not None
    except RefError:
        return False


def _allowed(document: Json, spec: str) -> list[Json]:
    """The releases that a range allows."""
    wanted, known = Range(spec), set(_versions(document))
    return [r for r in dicts(document.get("releases")) if r.get("version") in known and wanted.allows(r["version"])]


def _versions(document: Json) -> list[str]:
    """The versions of an entry, oldest first; what is none is a fault of the entry."""
    from semantic_version import validate

    found = [r.get("version") for r in dicts(document.get("releases"))]
    return in_order(version for version in found if isinstance(version, str) and validate(version))
