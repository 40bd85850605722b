"""Values of a configuration, each checked: a wrong one is named with file, key, expected and found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hubcli.config.model import BUNDLED, IndexConfig, hub_index, is_loopback, origin_of, own_hub
from hubcli.errors import UsageError
from hubcli.refs import INDEX_NAME, NAME_PART

RESERVED = (BUNDLED, "hf", "folder", "file", "http", "https")
_INDEX_KEYS = {"url", "token-env", "scopes"}
_SCOPE = re.compile(rf"{NAME_PART}/([a-z0-9._*-]{{1,64}})\Z")


def fault(where: object, key: str, expected: str, found: object) -> UsageError:
    """The error for a value that can't be."""
    return UsageError(f"{where}: {key}: expected {expected}, found {found!a}", id="E_CONFIG")


def known_keys(document: Mapping[str, Any], file: Path, allowed: set[str]) -> None:
    """Refuse a setting that nothing reads."""
    for key in document.keys() - allowed:
        raise fault(file, "settings", f"one of {', '.join(sorted(allowed))}", key)


def indexes(document: Mapping[str, Any], file: Path, origin: str) -> list[IndexConfig]:
    """The table `indexes`, in its order."""
    table = document.get("indexes", {})
    if not isinstance(table, dict):
        raise fault(file, "indexes", "a table of NAME = URL", table)
    return [index(name, value, file, file.parent, origin) for name, value in table.items()]


def index(name: str, value: object, where: object, folder: Path, origin: str) -> IndexConfig:
    """One index: a URL or folder (relative to `folder`), or a table with one."""
    if name == BUNDLED and value in (True, False):
        return IndexConfig(BUNDLED, BUNDLED if value else "", origin=origin)
    if not INDEX_NAME.match(name) or name in RESERVED:
        raise fault(where, "index name", f"a-z 0-9 -, at most 32, none of {', '.join(RESERVED)}", name)
    table: Any = {"url": value} if isinstance(value, str) else value
    if not isinstance(table, dict) or not isinstance(table.get("url"), str) or table.keys() - _INDEX_KEYS:
        found = f"a table of {', '.join(map(str, table))}" if isinstance(table, dict) else type(value).__name__
        raise fault(where, f"indexes.{name}", "a URL, or a table of url, token-env, scopes", found)
    scopes, variable = table.get("scopes", []), table.get("token-env")
    if not isinstance(scopes, list) or not all(isinstance(s, str) and _is_scope(s) for s in scopes):
        raise fault(where, f"indexes.{name}.scopes", "patterns like acme/*", scopes)
    if variable is not None and origin == "project":
        hint = f"bind the token yourself: hubcli index add {name} URL --token-env VAR"
        raise UsageError(f"{where}: indexes.{name}: a project can't bind a token", hint=hint, id="E_CONFIG")
    if variable is not None and not (isinstance(variable, str) and variable.isidentifier()):
        raise fault(where, f"indexes.{name}.token-env", "the name of an environment variable", variable)
    return IndexConfig(name, url(table["url"], where, folder, bool(variable)), variable, tuple(scopes), origin)


def _is_scope(text: str) -> bool:
    return _SCOPE.match(text) is not None


def url(text: str, where: object, folder: Path, has_token: bool) -> str:
    """A folder made absolute, a URL without credentials, query and fragment, ending in one slash, or a hub's repository."""
    if text.startswith("hf:"):
        if hub_index(text) is None:
            raise fault(where, "index", "hf:datasets/ORG/NAME, with @BRANCH or without", text)
        if has_token and own_hub().startswith("http://") and not is_loopback(_origin(own_hub(), where)):
            raise fault(where, "token-env", "an https hub to go with it", own_hub())
        return text
    if "://" not in text:
        if has_token:
            raise fault(where, "token-env", "an https URL to go with it", text)
        return str(folder.absolute() / Path(text).expanduser())
    if text.startswith(("http://", "https://")):
        origin = _origin(text, where)
        if "?" in text or "#" in text:
            raise UsageError(f"{where}: expected a URL without query and fragment ({origin}/…)", id="E_CONFIG")
        if has_token and text.startswith("http://") and not is_loopback(origin):
            raise fault(where, "token-env", "an https URL to go with it", text)
        return text.rstrip("/") + "/"
    return text


def assignment(text: str, where: str) -> IndexConfig:
    """`NAME=URL`."""
    name, equals, url = text.partition("=")
    if not equals or not url:
        raise fault(where, "index", "NAME=URL", text)
    return index(name, url, where, Path.cwd(), "command line")


def mirrors(document: Mapping[str, Any], file: Path) -> list[str]:
    """The list `mirrors`, folders made absolute."""
    mirrors = document.get("mirrors", [])
    if not isinstance(mirrors, list) or not all(isinstance(m, str) for m in mirrors):
        raise fault(file, "mirrors", "a list of folders and URLs", mirrors)
    return [url(mirror, file, file.parent, False) for mirror in mirrors]


def offline(document: Mapping[str, Any], file: Path) -> bool:
    """The switch `offline`."""
    value = document.get("offline", False)
    if not isinstance(value, bool):
        raise fault(file, "offline", "true or false", value)
    return value


def token_envs(user: Mapping[str, IndexConfig], document: Mapping[str, Any], file: Path) -> dict[str, str]:
    """Origin → variable, of the user's indexes and [tokens]."""
    table = document.get("tokens", {})
    if not isinstance(table, dict) or not all(isinstance(v, str) and v.isidentifier() for v in table.values()):
        raise fault(file, "tokens", "a table of ORIGIN = VARIABLE, names of environment variables", "something else")
    bound = {
        origin_of(own_hub() if hub_index(index.url) else index.url): index.token_env
        for index in user.values()
        if index.token_env
    }
    return {**bound, **{_origin(url, file): variable for url, variable in table.items()}}


def _origin(url: str, where: object) -> str:
    try:
        return origin_of(url)
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", hint=error.hint, id=error.id) from None
