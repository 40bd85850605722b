"""`adapters.toml`: what a project wants.

[adapters]
"sentiment/bert-lora" = "^1.0"
"acme/legal" = { version = "^2", index = "acme" }
"hf:org/repo" = "main"

[indexes]                        # as in the user's config, without tokens
acme = { url = "https://index.acme.example/", scopes = ["acme/*"] }
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubcli import toml_file
from hubcli.config import BUNDLED
from hubcli.errors import NotFoundError, UsageError
from hubcli.refs import Ref, parse_ref

PROJECT, LOCK = "adapters.toml", "adapters.lock"


@dataclass(frozen=True, slots=True)
class Project:
    """A project's `adapters.toml`: wanted refs by store name, and its own indexes (name → URL as written)."""

    file: Path
    wants: Mapping[str, Ref]
    indexes: Mapping[str, str]

    @property
    def lock_file(self) -> Path:
        """Where its lock is."""
        return self.file.with_name(LOCK)


def load_project(path: Path) -> Project:
    """Read `adapters.toml`, given itself or its folder.

    Raises:
        NotFoundError: there is none.
        UsageError: E_CONFIG, E_REF, a value that can't be, named.
    """
    file = path / PROJECT if path.is_dir() else path
    if not file.is_file():
        raise NotFoundError(f"{file} does not exist", hint="hubcli install REF --save writes one")
    document = toml_file.read(file, UsageError, "E_CONFIG")
    table, indexes = document.get("adapters", {}), document.get("indexes", {})
    if not isinstance(table, dict) or not isinstance(indexes, dict):
        raise UsageError(f"{file}: expected tables [adapters] and [indexes]", id="E_CONFIG")
    wants = {}
    for name, value in table.items():
        ref = _wanted(name, value, file)
        wants[ref.store_name] = ref
    return Project(file, wants, {name: _url(value) for name, value in indexes.items()})


def _url(value: object) -> str:
    """An index's URL as written; `bundled = true` stands for the bundled index's."""
    if isinstance(value, dict):
        return str(value.get("url", ""))
    return BUNDLED if value is True else str(value)


def _wanted(name: str, value: object, file: Path) -> Ref:
    table = {"version": value} if isinstance(value, str) else value
    if not isinstance(table, dict) or table.keys() - {"version", "index"} or not _texts(table.values()):
        expected = 'a version range like "^1.2", or { version = "^1.2", index = "acme" }'
        raise UsageError(f"{file}: adapters.{name!a}: expected {expected}", id="E_CONFIG")
    spec = "" if table.get("version", "").strip() == "*" else table.get("version", "").strip()
    pinned = f"{table['index']}:" if "index" in table else ""
    ref = parse_ref(f"{pinned}{name}" + (f"@{spec}" if spec else ""))
    if ref.kind == "folder" or ref.spec != spec:
        expected = "group/name or hf:org/repo, with the version as its value"
        raise UsageError(f"{file}: adapters.{name!a}: expected {expected}", id="E_CONFIG")
    if ref.kind == "index":
        from hubcli.versions import Range

        Range(spec)
    return ref


def _texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def spec_to_save(ref: Ref, version: str) -> str:
    """What `--save` writes for an installed ref: the range or revision as typed, else `^version`, or the commit."""
    return ref.spec or (version if ref.kind == "hf" else f"^{version}")


def save_wanted(file: Path, name: str, spec: str, *, index: str | None = None) -> bool:
    """Write one line of `[adapters]` into `adapters.toml`, leaving all others as they are; False where it stands there.

    Raises:
        UsageError: E_CONFIG, the file is no TOML, or is written in a way that a line can't be changed in.
        DiskError: it can't be written.
    """
    before = toml_file.read(file, UsageError, "E_CONFIG") if file.exists() else {}
    value: Any = {"version": spec, "index": index} if index else spec
    if before.get("adapters", {}).get(name) == value:
        return False
    written = f'{{ version = "{spec}", index = "{index}" }}' if index else f'"{spec}"'
    text = _with_line(file.read_text(encoding="utf-8") if file.exists() else "", name, f'"{name}" = {written}')
    expected = {**before, "adapters": {**before.get("adapters", {}), name: value}}
    if _parse(text) != expected:
        raise UsageError(f'{file}: add this line to [adapters] by hand: "{name}" = {written}', id="E_CONFIG")
    return toml_file.write(file, text)


def _with_line(text: str, name: str, line: str) -> str:
    """The text with a line of [adapters] replaced, or added at the end of that table, or in a new table at the end."""
    lines = text.splitlines()
    start = next((n for n, old in enumerate(lines) if old.split("#")[0].strip() == "[adapters]"), None)
    if start is None:
        return "\n".join([*lines, *([""] if lines else []), "[adapters]", line]) + "\n"
    end = next((n for n in range(start + 1, len(lines)) if lines[n].startswith("[")), len(lines))
    for number in range(start + 1, end):
        if lines[number].partition("=")[0].strip() in (f'"{name}"', f"'{name}'"):
            lines[number] = line
            return "\n".join(lines) + "\n"
    last = max(n for n in range(start, end) if lines[n].strip())
    return "\n".join([*lines[: last + 1], line, *lines[last + 1 :]]) + "\n"


def _parse(text: str) -> dict[str, Any] | None:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None
