"""Rules of an index entry that a schema can't say: names, paths, versions, times, texts of one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from hubcli import schema, strict_json
from hubcli.errors import EntryError
from hubcli.index.sources import ENTRY_LIMIT
from hubcli.manifest import ENTRY_V
from hubcli.refs import NAME
from hubcli.schema import Fault, shown

PATH_LIMIT = 255
NAME_FORM = "group/name, each of a-z 0-9 . _ -, at most 64 characters, a letter or digit first"
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|\Z)", re.IGNORECASE)
_PATH_CHARACTERS = re.compile(r"[A-Za-z0-9 !#$%&'()+,./;=@\[\]^_`{}~-]*\Z")
_ONE_LINE = re.compile(r"[\t\n\r]")


@dataclass(frozen=True, slots=True)
class Checked:
    """An entry as read: the document (None where it can't be parsed), its faults, and the keys it has beyond the schema."""

    document: dict[str, Any] | None
    faults: tuple[Fault, ...] = ()
    unknown: tuple[Fault, ...] = ()


def check_entry(raw: bytes, *, name: str, where: str) -> Checked:
    """Everything wrong in one entry, at once. `name` is what its path says it is called; `where` is the file."""
    faults = list(check_name(name))
    try:
        document = strict_json.loads(raw, where=where, limit=ENTRY_LIMIT)
    except EntryError as error:
        expected, found = "a JSON document within the limits", error.message.removeprefix(f"{where}: ")
        return Checked(None, (*faults, Fault("", expected, found, error.id)))
    if isinstance(document, dict) and isinstance(document.get("v"), int) and document["v"] > ENTRY_V:
        newer = f"{document['v']}, from a newer hubcli: upgrade to read it"
        return Checked(None, (*faults, Fault("v", str(ENTRY_V), newer)))
    by_schema = schema.check(document, "index-entry")
    faults += [fault for fault in by_schema if not fault.unknown]
    if isinstance(document, dict):
        faults += _rules(document, name)
    if b"\\" in raw:
        faults += _lines(document, "")
    return Checked(document, tuple(faults), tuple(fault for fault in by_schema if fault.unknown))


def raise_faults(where: str, faults: tuple[Fault, ...]) -> None:
    """Raise one error that names all faults of a file; nothing where there are none.

    Raises:
        EntryError: with the id of the first fault.
    """
    if faults:
        count = f"{len(faults)} faults: " if len(faults) > 1 else ""
        hint = "tell the people who keep this index; 'hubcli index check' lists every fault"
        raise EntryError(f"{where}: {count}" + "; ".join(map(str, faults)), hint=hint, id=faults[0].id)


def check_name(name: str) -> Iterator[Fault]:
    """What is wrong with an entry's name."""
    if not name.isascii():
        yield Fault("name", "ASCII: " + NAME_FORM, ascii(name)[1:-1], "E_NAME_CHARSET")
    elif not NAME.match(name) or ".." in name or "--" in name or name.endswith(".") or "./" in name:
        yield Fault("name", NAME_FORM, shown(name), "E_NAME_CHARSET")
    elif any(_RESERVED.match(part) for part in name.split("/")):
        yield Fault("name", "no name that Windows reserves (con, nul, aux, com1, …)", shown(name), "E_NAME_RESERVED")


def safe_path(text: object) -> PurePosixPath:
    """A relative POSIX path that stays in its folder on every system.

    Raises:
        EntryError: E_PATH_UNSAFE, with what was expected and the text escaped.
    """
    if reason := _unsafe(text):
        raise EntryError(f"unsafe path {ascii(text)[:80]}: {reason}", id="E_PATH_UNSAFE")
    return PurePosixPath(str(text))


_PATH_RULES: tuple[tuple[str, Callable[[str, list[str]], object]], ...] = (
    (f"expected at most {PATH_LIMIT} characters", lambda text, _: len(text) <= PATH_LIMIT),
    ('expected printable ASCII without \\ : * ? " < > |', lambda text, _: _PATH_CHARACTERS.match(text)),
    ("expected no empty, '.' or '..' part", lambda _, parts: not {"", ".", ".."} & set(parts)),
    ("expected no ~ at the start", lambda text, _: not text.startswith("~")),
    ("expected no part that starts with a space or ends in a space or a dot", lambda _, parts: _trimmed(parts)),
    (
        "expected no name that Windows reserves (con, nul, aux, com1, …)",
        lambda _, parts: not any(map(_RESERVED.match, parts)),
    ),
)


def _unsafe(text: object) -> str | None:
    """The rule that a path breaks, or None."""
    if not isinstance(text, str) or not text:
        return "expected a relative path"
    parts = text.split("/")
    return next((rule for rule, holds in _PATH_RULES if not holds(text, parts)), None)


def _trimmed(parts: list[str]) -> bool:
    return not any(part[-1:] in (" ", ".") or part[:1] == " " for part in parts)


def _rules(document: dict[str, Any], name: str) -> Iterator[Fault]:
    stated = document.get("name")
    if isinstance(stated, str) and stated != name:
        yield from check_name(stated)
        yield Fault("name", f"{ascii(name)[1:-1]}, as its path says", shown(stated), "E_NAME_MISMATCH")
    releases = document.get("releases")
    seen: dict[str, str] = {}
    for number, release in enumerate(releases if isinstance(releases, list) else []):
        if not isinstance(release, dict):
            continue
        at = f"releases[{number}]"
        version = release.get("version")
        if isinstance(version, str):
            bare = version.partition("+")[0]
            if bare in seen:
                expected = "each version once (build metadata does not count)"
                yield Fault(f"{at}.version", expected, f"{shown(version)} after {shown(seen[bare])}", "E_VERSION")
            seen.setdefault(bare, version)
        yield from _times(release, at)
        yield from _files(release.get("files"), f"{at}.files")
        yield from _origin(release, at)
        if document.get("kind") != "adapter":
            yield from _requires(release.get("requires"), f"{at}.requires", name)
        if document.get("kind") == "composition":
            yield from _expression(release, at)


def _times(release: dict[str, Any], at: str) -> Iterator[Fault]:
    yanked = release.get("yanked")
    date = yanked.get("date") if isinstance(yanked, dict) else None
    for field, text in ((f"{at}.published", release.get("published")), (f"{at}.yanked.date", date)):
        if isinstance(text, str) and len(text) == 20:
            try:
                datetime.fromisoformat(text)
            except ValueError:
                yield Fault(field, "a time that exists", shown(text))


def _files(files: object, at: str) -> Iterator[Fault]:
    """Paths that leave the folder, and such as would lie in one place on a system that folds case."""
    taken: dict[str, str] = {}
    folders: dict[str, str] = {}
    for number, file in enumerate(files if isinstance(files, list) else []):
        path = file.get("path") if isinstance(file, dict) else None
        if not isinstance(path, str):
            continue
        if reason := _unsafe(path):
            yield Fault(f"{at}[{number}].path", reason.removeprefix("expected "), ascii(path)[1:81], "E_PATH_UNSAFE")
            continue
        folded = path.lower()
        parents = [folded[:end] for end, character in enumerate(folded) if character == "/"]
        clash = taken.get(folded) or folders.get(folded) or next((taken[p] for p in parents if p in taken), None)
        if clash:
            yield Fault(f"{at}[{number}].path", f"a path beside {clash}", shown(path), "E_PATH_UNSAFE")
        taken[folded] = path
        folders.update(dict.fromkeys(parents, path))


def _origin(release: dict[str, Any], at: str) -> Iterator[Fault]:
    """A release that is an archive elsewhere, and says that it is to be had."""
    if isinstance(release.get("origin"), dict) and release.get("files") == []:
        if release.get("status") not in ("archived", "quarantined"):
            expected = "archived, of a release that has an origin and no files"
            yield Fault(f"{at}.status", expected, shown(release.get("status")))
        if release.get("hub"):
            yield Fault(f"{at}.hub", "nothing, of a release without files", shown(release["hub"]))


def _requires(requires: object, at: str, own: str) -> Iterator[Fault]:
    from hubcli.errors import RefError
    from hubcli.versions import Range

    for name, spec in requires.items() if isinstance(requires, dict) else ():
        if name == own:
            yield Fault(f"{at}.{ascii(name)[1:-1]}", "another entry", "the entry itself", "E_CYCLE")
        for fault in check_name(name):
            yield Fault(f"{at}.{ascii(name)[1:-1]}", fault.expected, fault.found, fault.id)
        try:
            if isinstance(spec, str):
                Range(spec)
        except RefError:
            yield Fault(f"{at}.{ascii(name)[1:-1]}", "a version range like ^1.2", shown(spec), "E_VERSION")


def _expression(release: dict[str, Any], at: str) -> Iterator[Fault]:
    """An expression that can't be read, names in it that are no names of an index, and requirements too many or too few."""
    from hubcli.composition import parse
    from hubcli.compositions import names
    from hubcli.errors import ExpressionError

    source, requires = release.get("expression"), release.get("requires")
    if not isinstance(source, str):
        return
    try:
        used = names(parse(source))
    except ExpressionError as error:
        yield Fault(f"{at}.expression", "a composition", ascii(error.message)[1:-1])
        return
    bad = [fault for name in used for fault in check_name(name)]
    for fault in bad:
        yield Fault(f"{at}.expression", f"names of index entries ({fault.expected})", fault.found, fault.id)
    if bad or not isinstance(requires, dict) or not requires or any(any(check_name(name)) for name in requires):
        return
    for name in [name for name in used if name not in requires]:
        yield Fault(f"{at}.requires", f"a version range for {name}", "nothing", "E_REQUIRES")
    for name in [name for name in requires if name not in used]:
        yield Fault(f"{at}.requires", "names that the expression uses", name, "E_REQUIRES")


def _lines(value: Any, at: str) -> Iterator[Fault]:
    """Line ends and tabs in texts: an entry's texts are single lines."""
    if isinstance(value, str):
        if _ONE_LINE.search(value):
            yield Fault(at.lstrip("."), "one line of text", shown(value))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _lines(item, f"{at}[{number}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _lines(key, f"{at}.{shown(key)[1:-1]}")
            yield from _lines(item, f"{at}.{shown(key)[1:-1]}")


def dump(document: Mapping[str, Any]) -> bytes:
    """The bytes of a JSON file of an index."""
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"
