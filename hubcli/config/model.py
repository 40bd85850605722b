"""What a configuration says, once it is read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from hubcli.errors import NotFoundError, UsageError
from hubcli.frozen import frozen

BUNDLED = "bundled"
DEFAULT_ENDPOINT = "https://huggingface.co"
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_HUB_INDEX = re.compile(rf"hf:datasets/({_PART}/{_PART})(?:@([A-Za-z0-9][A-Za-z0-9._/+-]{{0,127}}))?\Z")


@frozen
class IndexConfig:
    """A configured index; with `scopes` it serves only names they match.

    `url` is "bundled", an absolute folder, a URL, or `hf:datasets/ORG/NAME[@REV]`, a repository of the person's own hub.

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
        other = "://" in self.url or self.url == BUNDLED or self.url.startswith("hf:")
        return None if other else Path(self.url)


@frozen
class Config:
    """What holds for one command. `offline` is the name of the switch that turns the network off, or None."""

    indexes: tuple[IndexConfig, ...]
    mirrors: tuple[str, ...] = ()
    offline: str | None = None
    token_envs: tuple[tuple[str, str], ...] = ()

    def tokens(self) -> dict[str, str]:
        """Origin → token, of the variables that are set."""
        return {origin: token for origin, variable in self.token_envs if (token := os.environ.get(variable))}


def hub_index(url: str) -> tuple[str, str] | None:
    """(ORG/NAME, revision) of an index in a dataset repository of the hub, `main` where no revision is named; else None."""
    found = _HUB_INDEX.match(url)
    return (found[1], found[2] or "main") if found and ".." not in url else None


def own_hub() -> str:
    """The person's own hub: `HF_ENDPOINT`, else the Hugging Face Hub."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def no_index(name: str, known: Iterable[str]) -> NotFoundError:
    """The error for an index that is not configured."""
    there_are = ", ".join(known) or "none"
    add = (
        f"put it back: hubcli index add {BUNDLED} {BUNDLED}" if name == BUNDLED else "add it: hubcli index add NAME URL"
    )
    return NotFoundError(f"no index is called '{name}' (there are: {there_are})", hint=add)


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


def is_loopback(origin: str) -> bool:
    """Is this origin on this machine?"""
    return origin.partition("://")[2].rsplit(":", 1)[0] in _LOOPBACK or origin.partition("://")[2] in _LOOPBACK
