"""Settings: command line > `HUBCLI_*` > `./adapters.toml` > the user's `config.toml`. The bundled index comes last.

    offline = true
    mirrors = ["/mnt/adapters"]
    [indexes]                       # in order; the first that has a name wins
    acme = { url = "https://index.acme.example/", token-env = "ACME_TOKEN", scopes = ["acme/*"] }
    team = "/srv/team-index"        # a folder
    bundled = false                 # leave the bundled index out (true: put it here)
    [tokens]                        # for a hub on another origin than its index
    "https://hub.acme.example" = "ACME_TOKEN"

Tokens are named by environment variable and bound to one origin, by the user's own config alone: a project's
`adapters.toml` comes with a clone, and must not be able to send a token anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hubcli import paths
from hubcli.errors import DiskError, NotFoundError, UsageError
from hubcli.refs import INDEX_NAME, NAME_PART

BUNDLED = "bundled"
RESERVED = (BUNDLED, "hf", "folder", "file", "http", "https")
PROJECT_FILE = "adapters.toml"
_INDEX_KEYS = {"url", "token-env", "scopes"}
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """A configured index. `url` is "bundled", an absolute folder, or a URL; with `scopes` it serves only names they match.

    `token_env` names the environment variable with the token for the URL's origin; `origin` says where it is
    configured.
    """

    name: str
    url: str
    token_env: str | None = None
    scopes: tuple[str, ...] = ()
    origin: str = "user"

    @property
    def folder(self) -> Path | None:
        """The folder of a local index, or None."""
        if self.url.startswith("file://"):
            from urllib.parse import unquote

            return Path(unquote(self.url.removeprefix("file://")))
        return None if "://" in self.url or self.url == BUNDLED else Path(self.url)


@dataclass(frozen=True, slots=True)
class Config:
    """What holds for one command. `offline` is the name of the switch that turns the network off, or None."""

    indexes: tuple[IndexConfig, ...]
    mirrors: tuple[str, ...] = ()
    offline: str | None = None
    token_envs: tuple[tuple[str, str], ...] = ()

    def tokens(self) -> dict[str, str]:
        """Origin → token, of the variables that are set."""
        return {origin: token for origin, variable in self.token_envs if (token := os.environ.get(variable))}

    def index(self, name: str) -> IndexConfig:
        """The index of this name.

        Raises:
            NotFoundError: there is none; names those there are.
        """
        for index in self.indexes:
            if index.name == name:
                return index
        raise no_index(name, [index.name for index in self.indexes])


def no_index(name: str, known: Iterable[str]) -> NotFoundError:
    """The error for an index that is not configured."""
    there_are = ", ".join(known) or "none"
    return NotFoundError(
        f"no index is called '{name}' (there are: {there_are})", hint="add it: hubcli index add NAME URL"
    )


def load_config(
    *,
    indexes: Sequence[str] = (),
    mirrors: Sequence[str] = (),
    offline: bool | None = None,
    project: Path | None = None,
) -> Config:
    """The settings that hold now.

    Args:
        indexes: `NAME=URL` from the command line, before all others.
        mirrors: folders or URLs from the command line, before all others.
        offline: `--offline`.
        project: the `adapters.toml` to read; default: the one in the working folder, if there is one.

    Raises:
        UsageError: E_CONFIG, with file, key, expected and found.
    """
    project_file = project or Path(PROJECT_FILE)
    user_file = user_config_file()
    from_project, from_user = _read(project_file), _read(user_file)
    levels = [
        [_assignment(text, "command line") for text in indexes],
        [_assignment(text, "HUBCLI_INDEXES") for text in os.environ.get("HUBCLI_INDEXES", "").split()],
        _indexes(from_project, project_file, "project"),
        _indexes(from_user, user_file, "user"),
        [IndexConfig(BUNDLED, BUNDLED, origin="bundled")],
    ]
    user = {index.name: index for index in levels[3]}
    merged: dict[str, IndexConfig] = {}
    for index in (index for level in levels for index in level):
        merged.setdefault(index.name, index)
    given = (
        mirrors,
        os.environ.get("HUBCLI_MIRRORS", "").split(),
        *(_mirrors(t, f) for t, f in _files(from_project, from_user)),
    )
    switch = "--offline" if offline else paths.offline_switch()
    if switch is None and offline is None:
        switch = next((f"offline in {f}" for t, f in _files(from_project, from_user) if _offline(t, f)), None)
    return Config(
        tuple(index for index in merged.values() if index.url),
        tuple(dict.fromkeys(mirror for level in given for mirror in level)),
        switch,
        tuple(_token_envs(user, from_user, user_file).items()),
    )


def user_config_file() -> Path:
    """The user's own settings."""
    return paths.home() / "config.toml"


def add_index(
    name: str, url: str, *, token_env: str | None = None, scopes: Sequence[str] = (), first: bool = False
) -> IndexConfig:
    """Write an index to the user's config: last of the list, or first. The same name and URL again changes the rest.

    Raises:
        UsageError: E_CONFIG, a name, URL or scope that can't be; or the name stands for another URL.
        DiskError: the config can't be written.
    """
    file = user_config_file()
    document = _read(file)
    value: dict[str, Any] = {"url": url, "token-env": token_env, "scopes": list(scopes)}
    index = _index(name, {k: v for k, v in value.items() if v}, "command line", Path.cwd(), "user")
    known = {other.name: other for other in _indexes(document, file, "user")}
    if name in known and known[name].url != index.url:
        hint = f"hubcli index remove {name}"
        raise UsageError(f"index '{name}' stands for {known[name].url} already", hint=hint, id="E_CONFIG")
    table = {key: item for key, item in document.get("indexes", {}).items() if key != name or not first}
    entry = {name: _to_toml(index)}
    document["indexes"] = {**entry, **table} if first else {**table, **entry}
    _write(file, document)
    return index


def remove_index(name: str) -> None:
    """Take an index off the user's config; the bundled one is switched off.

    Raises:
        NotFoundError: the user's config has no such index.
    """
    file = user_config_file()
    document = _read(file)
    table = dict(document.get("indexes", {}))
    if name == BUNDLED:
        table[BUNDLED] = False
    elif table.pop(name, None) is None:
        raise no_index(name, table)
    document["indexes"] = table
    _write(file, document)


def origin_of(url: str) -> str:
    """scheme://host:port of a URL, default ports left out.

    Raises:
        UsageError: E_CONFIG, no http(s) URL, or one with credentials.
    """
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise UsageError(f"expected an http(s) URL, found {url!a}", id="E_CONFIG") from None
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(f"expected an http(s) URL, found {url!a}", id="E_CONFIG")
    if parts.username or parts.password:
        hint = "name an environment variable instead: hubcli index add NAME URL --token-env VAR"
        raise UsageError(f"no credentials in a URL ({parts.scheme}://…@{host})", hint=hint, id="E_CONFIG")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (
        "" if port in (None, {"http": 80, "https": 443}[parts.scheme]) else f":{port}"
    )


def _files(project: Any, user: Any) -> list[tuple[Mapping[str, Any], Path]]:
    return [(project, Path(PROJECT_FILE)), (user, user_config_file())]


def _read(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: not TOML: {error}", id="E_CONFIG") from None
    except OSError as error:
        raise DiskError(f"can't read {file}", cause=error.strerror) from None


def _write(file: Path, document: Mapping[str, Any]) -> None:
    import tomli_w

    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(tomli_w.dumps(document), encoding="utf-8", newline="\n")
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DiskError(f"can't write {file}", cause=error.strerror) from None


def _fault(where: object, key: str, expected: str, found: object) -> UsageError:
    return UsageError(f"{where}: {key}: expected {expected}, found {found!a}", id="E_CONFIG")


def _indexes(document: Mapping[str, Any], file: Path, origin: str) -> list[IndexConfig]:
    table = document.get("indexes", {})
    if not isinstance(table, dict):
        raise _fault(file, "indexes", "a table of NAME = URL", table)
    return [_index(name, value, file, file.parent, origin) for name, value in table.items()]


def _index(name: str, value: object, where: object, folder: Path, origin: str) -> IndexConfig:
    if name == BUNDLED and value in (True, False):
        return IndexConfig(BUNDLED, BUNDLED if value else "", origin=origin)
    if not INDEX_NAME.match(name) or name in RESERVED:
        raise _fault(where, "index name", f"a-z 0-9 -, at most 32, none of {', '.join(RESERVED)}", name)
    table: Any = {"url": value} if isinstance(value, str) else value
    if not isinstance(table, dict) or not isinstance(table.get("url"), str) or table.keys() - _INDEX_KEYS:
        raise _fault(where, f"indexes.{name}", "a URL, or a table of url, token-env, scopes", value)
    scopes, variable = table.get("scopes", []), table.get("token-env")
    if not isinstance(scopes, list) or not all(isinstance(s, str) and _is_scope(s) for s in scopes):
        raise _fault(where, f"indexes.{name}.scopes", "patterns like acme/*", scopes)
    if variable is not None and origin == "project":
        hint = f"bind the token yourself: hubcli index add {name} URL --token-env VAR"
        raise UsageError(f"{where}: indexes.{name}: a project can't bind a token", hint=hint, id="E_CONFIG")
    if variable is not None and not (isinstance(variable, str) and variable.isidentifier()):
        raise _fault(where, f"indexes.{name}.token-env", "the name of an environment variable", variable)
    return IndexConfig(name, _url(table["url"], where, folder, bool(variable)), variable, tuple(scopes), origin)


def _is_scope(text: str) -> bool:
    import re

    return re.fullmatch(rf"{NAME_PART}/([a-z0-9._*-]{{1,64}})", text) is not None


def _url(text: str, where: object, folder: Path, has_token: bool) -> str:
    """A folder made absolute, or a URL without credentials, query and fragment, ending in one slash."""
    if "://" not in text:
        if has_token:
            raise _fault(where, "token-env", "an https URL to go with it", text)
        return str(folder.absolute() / Path(text).expanduser())
    if text.startswith(("http://", "https://")):
        origin = origin_of(text)
        if "?" in text or "#" in text:
            raise UsageError(f"{where}: expected a URL without query and fragment ({origin}/…)", id="E_CONFIG")
        if has_token and text.startswith("http://") and origin.split("//")[1].rsplit(":", 1)[0] not in _LOOPBACK:
            raise _fault(where, "token-env", "an https URL to go with it", text)
        return text.rstrip("/") + "/"
    return text


def _assignment(text: str, where: str) -> IndexConfig:
    name, equals, url = text.partition("=")
    if not equals or not url:
        raise _fault(where, "index", "NAME=URL", text)
    return _index(name, url, where, Path.cwd(), "command line")


def _mirrors(document: Mapping[str, Any], file: Path) -> list[str]:
    mirrors = document.get("mirrors", [])
    if not isinstance(mirrors, list) or not all(isinstance(m, str) for m in mirrors):
        raise _fault(file, "mirrors", "a list of folders and URLs", mirrors)
    return [_url(mirror, file, file.parent, False) for mirror in mirrors]


def _offline(document: Mapping[str, Any], file: Path) -> bool:
    value = document.get("offline", False)
    if not isinstance(value, bool):
        raise _fault(file, "offline", "true or false", value)
    return value


def _token_envs(user: Mapping[str, IndexConfig], document: Mapping[str, Any], file: Path) -> dict[str, str]:
    """Origin → variable, of the user's indexes and [tokens]."""
    table = document.get("tokens", {})
    if not isinstance(table, dict) or not all(isinstance(v, str) and v.isidentifier() for v in table.values()):
        raise _fault(file, "tokens", "a table of ORIGIN = VARIABLE", table)
    bound = {origin_of(index.url): index.token_env for index in user.values() if index.token_env}
    return {**bound, **{origin_of(url): variable for url, variable in table.items()}}


def _to_toml(index: IndexConfig) -> Any:
    table: dict[str, Any] = {"url": index.url}
    if index.token_env:
        table["token-env"] = index.token_env
    if index.scopes:
        table["scopes"] = list(index.scopes)
    return table if len(table) > 1 else index.url


def with_index(config: Config, index: IndexConfig) -> Config:
    """The settings with one more index, before all others."""
    return replace(config, indexes=(index, *config.indexes))
