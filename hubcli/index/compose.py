"""Writing a composition as an entry of an index folder: a new entry, or one more release of an entry that is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hubcli.composition import Expr, text
from hubcli.compositions import COMPOSITION, check_bases, cycle, names, renamed
from hubcli.errors import DiskError, EntryError, UsageError
from hubcli.index.entries import check_entry, check_name, dump, raise_faults
from hubcli.manifest import ENTRY_V, Release, Resolved
from hubcli.refs import Ref, parse_ref
from hubcli.whole_file import write_whole


def compose(expr: Expr, name: str, version: str, found: Mapping[str, Resolved], **fields: Any) -> Release:
    """The release of a composition: its leaves without versions, and in `requires` a version range for each.

    Args:
        expr: leaves are refs of indexes; a range that one has is kept, else it is `^` the version found.
        found: name → release, of every name in the expression.
        fields: of the release: license, published.

    Raises:
        UsageError: a folder or a hub repository in it, or two ranges for one name.
        BaseMismatchError: the parts are for different bases.
    """
    requires: dict[str, str] = {}
    for ref in map(required_ref, names(expr)):
        spec = ref.spec or f"^{found[ref.name].version}"
        if requires.setdefault(ref.name, spec) != spec:
            raise UsageError(f"two ranges for {ref.name}: {requires[ref.name]} and {spec}; write one of them")
    plain = text(renamed(expr, lambda ref: required_ref(ref).name))
    parts = [found[required].release for required in requires]
    release = Release(
        version=version,
        expression=plain,
        requires=requires,
        base=next((part.base for part in parts if part.base), None),
        task=next((part.task for part in parts if part.task), None),
        language=tuple(dict.fromkeys(language for part in parts for language in part.language)),
        **fields,
    )
    made = Resolved(name, version, name, release, "", COMPOSITION)
    check_bases(made, found)
    return release


def required_ref(text: str) -> Ref:
    """A leaf of a composition that is to be an entry: a name of an index, with a range or without.

    Raises:
        RefError: it is no ref; UsageError: it is a folder or a repository, or names its index.
    """
    ref = parse_ref(text)
    if ref.kind != "index" or ref.index:
        expected = "expected names like group/name, with a version range or without"
        raise UsageError(f"'{ref}' can't be part of an entry: {expected}")
    return ref


def refuse_cycle(name: str, found: Mapping[str, Resolved]) -> None:
    """Refuse a composition that one of its parts requires.

    Raises:
        EntryError: E_CYCLE, with the way round.
    """
    for part in found.values():
        if name in {part.name, *part.pins}:
            raise cycle((name, part.name, *([name] if part.name != name else [])))


def add_release(
    folder: Path, name: str, release: Release, *, description: str | None, authors: list[str], dry_run: bool
) -> Path:
    """Write a release into the entry `name` of an index folder, whole or not at all; the entry's file.

    Raises:
        UsageError: a new entry without a description or an author.
        EntryError: what is there is no composition or has this version, or the result breaks a rule.
        DiskError: it can't be written.
    """
    raise_faults(name, tuple(check_name(name)))
    file = folder / f"{name}.json"
    old = _present(file, name)
    if old is None and not (description and authors):
        raise UsageError(f"{name} is a new entry: it needs a description and an author")
    entry = old or {"v": ENTRY_V, "kind": COMPOSITION, "name": name, "releases": []}
    entry |= {"description": description} if description else {}
    entry |= {"authors": [{"name": author} for author in authors]} if authors else {}
    document = {key: value for key, value in release.to_json().items() if value not in (None, [], {})}
    if any(r["version"].partition("+")[0] == release.version.partition("+")[0] for r in entry["releases"]):
        raise EntryError(f"{name} has a version {release.version}, which never changes", id="E_IMMUTABLE")
    keys = ("v", "kind", "name", "description", "authors")
    entry = {**{key: entry[key] for key in keys}, "releases": [*entry["releases"], document]}
    data = dump(entry)
    checked = check_entry(data, name=name, where=str(file))
    raise_faults(str(file), checked.faults + checked.unknown)
    if not dry_run:
        write_whole(file, data)
    return file


def _present(file: Path, name: str) -> dict[str, Any] | None:
    """The entry that is there, checked."""
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DiskError(f"can't read {file}", cause=error.strerror) from None
    checked = check_entry(raw, name=name, where=str(file))
    raise_faults(str(file), checked.faults + checked.unknown)
    assert checked.document is not None
    if checked.document["kind"] != COMPOSITION:
        raise EntryError(f"{file}: expected a composition, found kind {checked.document['kind']}", id="E_IMMUTABLE")
    return checked.document
