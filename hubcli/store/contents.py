"""Reading a store: what is installed, by name and version. Nothing is made or changed here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hubcli.errors import HubcliError
from hubcli.manifest import Installed
from hubcli.store.files import check_plain_folders, disk_errors, tampered
from hubcli.store.layout import Layout
from hubcli.store.matching import newest
from hubcli.store.prune import plain_entries
from hubcli.store.record import NAME, read_record


class Broken(NamedTuple):
    """A folder of the store whose record can't be used: where it is, and the error that reading it gave."""

    path: str
    error: HubcliError

    @property
    def name(self) -> str:
        """The name as the folders say it."""
        group, name = Path(self.path).parts[-3:-1]
        return f"hf:{name.replace('--', '/')}" if group == "hf" else f"{group}/{name}"

    @property
    def version(self) -> str:
        """The version as the folder says it."""
        return Path(self.path).name


class Contents:
    """Installed adapters under `home`, as they lie there.

    Raises:
        HubcliError: the folder holds a store that only a newer hubcli can read.
    """

    def __init__(self, home: Path):
        self.layout = Layout(Path(home).absolute())
        self.layout.check_version()

    @property
    def path(self) -> Path:
        """The store's own folder."""
        return self.layout.root

    def scan(self) -> tuple[list[Installed], list[Broken]]:
        """All adapters by name and version, and the folders that can't be read.

        Raises:
            DiskError: the store can't be listed.
        """
        good, broken = [], []
        with disk_errors(self.layout.adapters):
            for folder in self._folders():
                found = self._looked_at(folder)
                if isinstance(found, Broken):
                    broken.append(found)
                elif found is not None:
                    good.append(found)
        return good, broken

    def _looked_at(self, folder: Path) -> Installed | Broken | None:
        """One folder; looked at again where it may have been replaced in between, None where it went away."""
        for last in (False, False, True):
            try:
                return self._read(folder)
            except HubcliError as error:
                if not folder.is_symlink() and not folder.is_dir():
                    return None
                if last:
                    return Broken(str(folder), error)
        return None

    def installed(self) -> list[Installed]:
        """All adapters that can be read, by name and version."""
        return self.scan()[0]

    def broken(self) -> list[Broken]:
        """The folders whose record can't be used."""
        return self.scan()[1]

    def get(self, name: str, version: str) -> Installed | None:
        """The adapter of exactly this version, or None.

        Raises:
            StoreTamperedError: its record is missing or changed, or a link lies on the way.
        """
        folder = self.layout.adapter(name, version)
        check_plain_folders(self.path, folder)
        found = self._looked_at(folder)
        if isinstance(found, Broken):
            raise found.error
        return found

    def has(self, name: str, version: str) -> bool:
        """Is there a folder of this release? Whether it is intact, `verify` says."""
        return self.layout.adapter(name, version).is_dir()

    def versions(self, name: str) -> list[Installed]:
        """All installed releases of a name that can be read."""
        parent = self.layout.adapter(name, "0").parent
        found = [self._looked_at(folder) for folder in self._real_folders(parent)]
        return [item for item in found if isinstance(item, Installed) and item.record.name == name]

    def find(self, name: str, spec: str = "") -> Installed | None:
        """The newest installed release of a name that fits a version range or a revision, or None."""
        return newest(self.versions(name), spec)

    def _folders(self) -> Iterator[Path]:
        for group in self._real_folders(self.layout.adapters):
            for name in self._real_folders(group):
                yield from self._real_folders(name)

    def _real_folders(self, parent: Path) -> list[Path]:
        """The folders in a folder; a link counts as one here, so that reading it names it as tampered with."""
        return [Path(e.path) for e in plain_entries(parent) if e.is_symlink() or e.is_dir(follow_symlinks=False)]

    def _read(self, folder: Path) -> Installed:
        check_plain_folders(self.path, folder)
        record = read_record(folder)
        if self.layout.adapter(record.name, record.version) != folder:
            raise tampered(folder / NAME, f"the record of {record.name} {record.version}")
        return Installed(record, str(folder))
