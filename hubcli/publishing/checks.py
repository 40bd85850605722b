"""Checks of what a person says of a release: names, version, licence, texts; and of the entry that it would become."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hubcli.index.entries import check_entry
from hubcli.index.similar import near_collisions
from hubcli.manifest import ENTRY_V, Entry, Json, Release
from hubcli.publishing import licences
from hubcli.publishing.findings import Finding, of_fault

UNKNOWN = "2000-01-01T00:00:00Z"  # stands for the time that the push will say


def authors_of(given: Iterable[str | Mapping[str, Any]]) -> tuple[Json, ...]:
    """Authors as an entry has them: a name alone becomes {"name": name}."""
    return tuple({"name": author} if isinstance(author, str) else dict(author) for author in given)


def check_told(
    name: str, description: str | None, authors: tuple[Json, ...], release: Release, before: Entry | None
) -> Iterator[Finding]:
    """What is missing or wrong of what a person has to say; `release` needs no files yet."""
    yield from licences.check(release.license)
    if not description:
        hint = "say in one line what it does: description (--description)"
        yield Finding("description", "", "a line of text", "none", hint)
    if not authors:
        hint = "say who made it: authors (--author)"
        yield Finding("authors", "", "a name at least", "none", hint)
    if before is not None:
        yield from _check_before(name, release.version, before)


def _check_before(name: str, version: str, before: Entry) -> Iterator[Finding]:
    if before.name != name:
        yield Finding("name", "entry", name, before.name, id="E_NAME_MISMATCH")
    bare = version.partition("+")[0]
    same = next((old.version for old in before.releases if old.version.partition("+")[0] == bare), None)
    if same is not None:
        twin = " (build metadata does not count)" if same != version else ""
        hint = "a published version never changes: publish the next one"
        yield Finding("version", "", f"one that {name} has not", f"{version}, beside {same}{twin}", hint, "E_IMMUTABLE")


def check_kind(kind: str, before: Entry | None) -> Iterator[Finding]:
    """An entry stays of its kind."""
    if before is not None and before.kind != kind:
        yield Finding("kind", "", f"{before.kind}, as the entry is", kind, id="E_IMMUTABLE")


def check_known(name: str, known: Iterable[str]) -> Iterator[Finding]:
    """Names of the index that this one is easily taken for."""
    others = sorted({other for other in known if other != name})
    for one, other in near_collisions([*others, name], [name]):
        if name in (one, other):
            near = other if one == name else one
            hint = "choose a name that differs in more than a letter or a sign"
            yield Finding(
                "name",
                "",
                "no name that is easily taken for another",
                f"{name} beside {near}",
                hint,
                "E_NAME_COLLISION",
            )


def check_as_entry(
    name: str, kind: str, description: str | None, authors: tuple[Json, ...], release: Release, told: Iterable[Finding]
) -> Iterator[Finding]:
    """What an index would refuse of the entry; what was said of a field already is not said again."""
    from dataclasses import replace

    given = replace(release, published=release.published or UNKNOWN, license=release.license or licences.OTHER)
    entry = Entry(ENTRY_V, kind, name, description or "-", authors or ({"name": "-"},), (given,))
    document = {**entry.to_json(), "releases": [plain(given)]}
    raw = json.dumps(document, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")
    checked = check_entry(raw, name=name, where=f"{name}.json")
    said = {finding.where for finding in told}
    for fault in checked.faults + checked.unknown:
        if fault.field.removeprefix("releases[0].").partition("[")[0] not in said or fault.id == "E_NAME_CHARSET":
            yield of_fault(fault)


def plain(release: Release) -> Json:
    """A release as an entry's document has it: without what says nothing."""
    return {key: value for key, value in release.to_json().items() if value not in (None, [], {})}
