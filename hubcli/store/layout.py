"""Where things lie in a store. The folder's name carries the store's version.

<home>/store/v1/blobs/<2 hex>/<sha256>                content, shared by hard links
<home>/store/v1/adapters/<group>/<name>/<version>/    files of one release, and its record .hubcli.json
<home>/store/v1/adapters/hf/<org>--<repo>/<commit>/   the same for a hub repository without an index entry
<home>/store/v1/partial/<sha256>                      the resumable part of an interrupted download
<home>/store/v1/tmp/<process>-<random>/               what is being put together or taken apart
<home>/store/v1/locks/
<home>/cache/converted/<sha256>.safetensors           what the pickled weights (of this sha256) of a local folder became
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from hubcli import paths
from hubcli.errors import EntryError, HubcliError
from hubcli.refs import NAME

VERSION = 1
_HF_NAME = re.compile(r"hf:(?:[A-Za-z0-9][A-Za-z0-9._-]{0,95}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,95}\Z")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,127}\Z")
SHA256 = re.compile(r"[0-9a-f]{64}\Z")
TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Made by hubcli; what lies here can be fetched or built again.\n"


class Layout(NamedTuple):
    """The folders of one store; nothing here touches the disk but `check_version`."""

    home: Path

    @property
    def root(self) -> Path:
        """The store's own folder."""
        return self.home / "store" / f"v{VERSION}"

    @property
    def blobs(self) -> Path:
        """Content by hash."""
        return self.root / "blobs"

    @property
    def adapters(self) -> Path:
        """Installed adapters."""
        return self.root / "adapters"

    @property
    def tmp(self) -> Path:
        """Work in progress."""
        return self.root / "tmp"

    @property
    def partial(self) -> Path:
        """Resumable parts of downloads."""
        return self.root / "partial"

    @property
    def converted(self) -> Path:
        """What pickled weights of local folders became; beside the store, no part of it."""
        return paths.converted(self.home)

    def blob(self, sha256: str) -> Path:
        """The file of a content hash.

        Raises:
            EntryError: `sha256` is no sha256 in hex.
        """
        if not SHA256.match(sha256):
            raise EntryError(f"expected a sha256 of 64 hex digits, found {sha256[:80]!r}")
        return self.blobs / sha256[:2] / sha256

    def adapter(self, name: str, version: str) -> Path:
        """The folder of a release.

        Raises:
            EntryError: the name or the version can't be a path of the store.
        """
        return self.adapters / folder_name(name) / version_name(version)

    def lock(self, name: str) -> Path:
        """The lock file of one adapter's name, or of `store`."""
        return self.root / "locks" / f"{folder_name(name).replace('/', '--') if name != 'store' else 'store'}.lock"

    def fresh(self, purpose: str) -> Path:
        """A path in tmp that no other process uses; it names its maker, so that leftovers can be told from work."""
        return self.tmp / f"{os.getpid()}@{_node()}-{purpose}-{os.urandom(8).hex()}"

    def check_version(self) -> None:
        """Refuse a store that only a newer hubcli can read.

        Raises:
            HubcliError: says which version was found and expected.
        """
        try:
            names = [entry.name for entry in os.scandir(self.home / "store")]
        except OSError:
            return
        found = [int(name[1:]) for name in names if name[:1] == "v" and name[1:].isdigit()]
        if found and VERSION not in found and max(found) > VERSION:
            raise HubcliError(
                f"{self.home / 'store'}: this store has version {max(found)}, this hubcli reads version {VERSION}",
                hint="upgrade hubcli, or set HUBCLI_HOME to another folder",
            )


def folder_name(name: str) -> str:
    """`group/name` as it is; `hf:org/repo` as `hf/org--repo`.

    Raises:
        EntryError: not a name that can be stored.
    """
    if _HF_NAME.match(name) and ".." not in name:
        return "hf/" + name[3:].replace("/", "--")
    if NAME.match(name) and ".." not in name:
        return name
    raise EntryError(f"expected a name like group/name or hf:org/repo, found {ascii(name)[:120]}", id="E_PATH_UNSAFE")


def version_name(version: str) -> str:
    """A version as a folder's name.

    Raises:
        EntryError: it has characters that no version has.
    """
    if _VERSION.match(version) and ".." not in version:
        return version
    raise EntryError(f"expected a version or a commit, found {ascii(version)[:120]}", id="E_PATH_UNSAFE")


def _node() -> str:
    name = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    return re.sub(r"[^A-Za-z0-9]", "_", name)[:40]


def owner_is_gone(path: Path) -> bool | None:
    """Whether the process that made a `fresh` path has ended; None where this machine can't tell."""
    maker, at, rest = path.name.partition("@")
    if not at or not maker.isdigit() or os.name == "nt":
        return None
    if rest.split("-")[0] != _node():
        return None
    try:
        os.kill(int(maker), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
