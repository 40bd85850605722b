"""Checks of what a person typed of a release, which need neither its folder nor a hub: said before anything is read or asked."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from hubcli.errors import UsageError
from hubcli.index.entries import check_entry, check_name
from hubcli.manifest import ENTRY_V
from hubcli.publishing import licences
from hubcli.publishing.findings import Finding, gather

_FIELD = re.compile(r"releases\[0\]\.(version|language|task)\b")
_NUMBERS = re.compile(r"[vV]?(\d+)(?:\.(\d+))?(?:\.(\d+))?")


def check_typed(
    name: str,
    version: str,
    *,
    license: str | None,
    language: Sequence[str],
    task: str | None,
    tasks: Collection[str] | None,
) -> None:
    """Refuse words that no entry takes, all at once.

    Args:
        license, language, task: None or empty where nothing was typed. tasks: those there is a model class for; None: any.

    Raises:
        UsageError: with every finding.
    """
    found = [*_name(name), *_fields(version, language, task)]
    found += [replace(one, id="E_USAGE") for one in licences.check(license)] if license is not None else []
    if task is not None and tasks is not None and task not in tasks:
        close = difflib.get_close_matches(task.lower(), tasks, 1)
        hint = f"did you mean --task {close[0]}?" if close else None
        found.append(Finding("task", "", "one of " + ", ".join(sorted(tasks)), ascii(task)[:80], hint, "E_USAGE"))
    if found:
        raise gather(UsageError, "", found)


def _name(name: str) -> Iterator[Finding]:
    """A name's form, with what was probably meant."""
    for fault in check_name(name):
        hint = None
        if "/" not in name and not any(check_name(f"you/{name}")):
            hint = f"expected GROUP/NAME, e.g. --name YOU/{name}"
        elif not any(check_name(name.lower())):
            hint = f"did you mean --name {name.lower()}?"
        yield Finding("name", "", fault.expected, fault.found, hint, "E_USAGE")


def _fields(version: str, language: Sequence[str], task: str | None) -> Iterator[Finding]:
    """Version, languages and task, by the rules of an entry."""
    release = {"version": version, "license": "other", "published": "2000-01-01T00:00:00Z", "language": [*language]}
    document = {"v": ENTRY_V, "kind": "adapter", "name": "a/b", "releases": [{**release, "task": task}]}
    raw = json.dumps(document).encode()
    for fault in check_entry(raw, name="a/b", where="").faults:
        field = _FIELD.match(fault.field)
        if field is not None:
            hint = {"version": _version(version), "language": "e.g. --language en, or pt-BR"}.get(field[1])
            yield Finding(field[1], "", fault.expected, fault.found, hint, "E_USAGE")


def _version(text: str) -> str:
    """What was meant by 1.0, v1.0.0 or 01.0."""
    found = _NUMBERS.fullmatch(text.strip())
    if found is None:
        return "e.g. --version 1.0.0"
    return "did you mean --version " + ".".join(str(int(number or 0)) for number in found.groups()) + "?"
