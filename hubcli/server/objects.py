"""Files, commits and repo settings as values: no disk, no HTTP.

A file's `oid` is what git would call it: the SHA-1 of the file, or, for a file kept by git LFS, of its LFS pointer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Final

from hubcli.errors import IntegrityError

FORMAT_V: Final = 1
LFS_FROM_BYTES: Final = 10 * 1024 * 1024  # the hub's own limit for files that git keeps
LFS_SUFFIXES: Final = (
    *(".bin", ".ckpt", ".ftz", ".gguf", ".h5", ".joblib", ".mlmodel", ".model", ".msgpack", ".npy", ".npz", ".onnx"),
    *(".ot", ".pb", ".pickle", ".pkl", ".pt", ".pth", ".safetensors", ".tflite", ".wasm"),
    *(".7z", ".arrow", ".bz2", ".gz", ".lz4", ".parquet", ".rar", ".tar", ".tgz", ".xz", ".zip", ".zst"),
)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a commit: size in bytes, sha256 and git oid in hex, and whether the hub would keep it by LFS."""

    size: int
    sha256: str
    oid: str
    lfs: bool

    @property
    def etag(self) -> str:
        """What the hub gives as ETag: sha256 of an LFS file, git's oid of any other."""
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True, slots=True)
class Commit:
    """One state of a repo. `id` is the SHA-1 of everything else here, so a commit can't change."""

    id: str
    parent: str | None
    date: str
    author: str
    title: str
    message: str
    files: Mapping[str, FileEntry]

    def to_json(self) -> dict[str, Any]:
        """The document kept on disk."""
        return {"v": FORMAT_V, **{name: getattr(self, name) for name in _COMMIT_FIELDS}, "files": _plain(self.files)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Commit:
        """Read a document back; IntegrityError if it is not what its id says."""
        check_format(document, "commit")
        found = make_commit(
            document["parent"],
            {path: FileEntry(**entry) for path, entry in document["files"].items()},
            author=document["author"],
            title=document["title"],
            message=document["message"],
            date=document["date"],
        )
        if found.id != document["id"]:
            raise IntegrityError(f"commit {document['id']}: its content hashes to {found.id}", id="E_COMMIT")
        return found


_COMMIT_FIELDS: Final = ("id", "parent", "date", "author", "title", "message")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a repo is, beside its commits.

    `origin`: `plain` (follows a folder of the served tree), `import` or `hub` (made over HTTP). `gated`: False, True or
    the hub's word for how (`auto`, `manual`). `moving_to` is the id that the folder is about to be renamed to.
    """

    id: str
    type: str
    created: str
    origin: str
    private: bool = False
    gated: bool | str = False
    tags: tuple[str, ...] = ()
    moving_to: str = ""

    def to_json(self) -> dict[str, Any]:
        """The document kept on disk."""
        return {"v": FORMAT_V, **asdict(self)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Settings:
        """Read a document back; people edit it. TypeError for another value than a text where one is needed."""
        check_format(document, "repo")
        values = {name: document[name] for name in cls.__dataclass_fields__ if name in document}
        _texts({name: values[name] for name in ("id", "type", "created", "origin")})
        return cls(**{**values, "tags": tuple(document.get("tags", ()))})


@dataclass(frozen=True, slots=True)
class Refs:
    """Branches and tags: name → commit id; `tag_messages`: name → text, where a tag has one."""

    branches: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    tag_messages: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The document kept on disk."""
        messages = {"tag_messages": dict(self.tag_messages)} if self.tag_messages else {}
        return {"v": FORMAT_V, "branches": dict(self.branches), "tags": dict(self.tags), **messages}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Refs:
        """Read a document back."""
        check_format(document, "refs")
        return cls(
            *(_texts(found) for found in (document["branches"], document["tags"], document.get("tag_messages", {})))
        )


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Texts by name; TypeError for anything else."""
    if wrong := next((name for name, value in values.items() if not isinstance(value, str)), None):
        raise TypeError(f"{wrong}: expected a text, found {values[wrong]!r}")
    return dict(values)


def check_format(document: Mapping[str, Any], what: str) -> None:
    """IntegrityError for a document of another format number."""
    if document.get("v") != FORMAT_V:
        raise IntegrityError(
            f"hub {what} document: expected format {FORMAT_V}, found {document.get('v')!r}",
            hint="it was written by another hubcli; upgrade this one",
            id="E_VERSION",
        )


def make_commit(
    parent: str | None, files: Mapping[str, FileEntry], *, author: str, title: str, message: str, date: str
) -> Commit:
    """A commit with its id: SHA-1 of the canonical JSON of all the rest."""
    draft = Commit("", parent, date, author, title, message, dict(sorted(files.items())))
    content = {name: value for name, value in draft.to_json().items() if name != "id"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return replace(draft, id=_sha1(text.encode()))


def _plain(files: Mapping[str, FileEntry]) -> dict[str, dict[str, Any]]:
    return {path: asdict(entry) for path, entry in files.items()}


def file_entry(path: str, size: int, sha256: str, blob_oid: str) -> FileEntry:
    """The entry of a file whose bytes have these hashes; `blob_oid` is git's SHA-1 of the bytes themselves."""
    lfs = size > LFS_FROM_BYTES or PurePosixPath(path).suffix.lower() in LFS_SUFFIXES
    return lfs_entry(size, sha256) if lfs else FileEntry(size, sha256, blob_oid, lfs)


def lfs_entry(size: int, sha256: str) -> FileEntry:
    """The entry of a file that came by LFS, whatever its name."""
    return FileEntry(size, sha256, git_oid("blob", lfs_pointer(sha256, size)), lfs=True)


def lfs_pointer(sha256: str, size: int) -> bytes:
    """The small file that git keeps in place of an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def git_oid(kind: str, content: bytes) -> str:
    """Git's SHA-1 of an object (`blob`, `tree`)."""
    return _sha1(f"{kind} {len(content)}\0".encode() + content)


def folder_oids(files: Mapping[str, FileEntry]) -> dict[str, str]:
    """Git's tree oid of every folder, the root's under ''."""
    children: dict[str, list[tuple[bytes, bytes]]] = {"": []}
    for path, entry in files.items():
        for parent in PurePosixPath(path).parents[:-1]:
            children.setdefault(str(parent), [])
        _put(children, path, b"100644", entry.oid)
    oids: dict[str, str] = {}
    for folder in sorted(children, key=lambda name: name.count("/") + bool(name), reverse=True):
        oids[folder] = git_oid("tree", b"".join(line for _, line in sorted(children[folder])))
        if folder:
            _put(children, folder, b"40000", oids[folder])
    return oids


def _put(children: dict[str, list[tuple[bytes, bytes]]], path: str, mode: bytes, oid: str) -> None:
    parent, _, name = path.rpartition("/")
    # git sorts a folder as if its name ended in '/'
    key = name.encode() + (b"/" if mode == b"40000" else b"")
    children[parent].append((key, mode + b" " + name.encode() + b"\0" + bytes.fromhex(oid)))


def timestamp(moment: datetime | None = None) -> str:
    """UTC with milliseconds, as the hub writes dates; now, if none is given."""
    moment = (moment or datetime.now(UTC)).astimezone(UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
