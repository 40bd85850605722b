"""What an index promises and what the store keeps: frozen value objects, JSON in and out, no I/O and no rules.

Field names are those of `schemas/index-entry.schema.json`. Objects are built from documents that a schema has passed, so the
readers here trust types; unknown keys are ignored (an older client reads a newer index of the same `v`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from functools import partial
from typing import Any, Self

from hubcli.frozen import frozen

ENTRY_V = 1
UNDATED = "1970-01-01T00:00:00Z"  # published at a time that nobody knows
Json = dict[str, Any]


def _plain(value: Any) -> Any:
    """A JSON value from a value object: tuples become lists, nested objects dicts."""
    if isinstance(value, Document):
        return value.to_json()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


class Document:
    """Base of the value objects: JSON keys are the field names."""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Build from a parsed JSON object, ignoring keys that this version does not know."""
        known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
        return cls(**{k: known[k].metadata.get("read", _same)(v) for k, v in document.items() if k in known})

    def to_json(self) -> Json:
        """The JSON object, keys in field order."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]


def _same(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _one(cls: type[Document], value: Any) -> Any:
    return None if value is None else cls.from_json(value)


def _many(cls: type[Document], value: Any) -> Any:
    return tuple(cls.from_json(item) for item in value)


@frozen
class Pickled(Document):
    """The pickled file of a hub repository that a file of a release was made from: its path there, size and sha256."""

    path: str
    size: int
    sha256: str


@frozen
class FileSpec(Document):
    """One file of a release: POSIX path relative to the adapter folder, size in bytes, sha256 in hex.

    `role` is one of weights, config, head, card, tokenizer, license. `converted_from` is set where a person asked for pickled
    weights of a hub repository to be converted: before that is done, size and sha256 are 0 and "".
    """

    path: str
    size: int
    sha256: str
    role: str
    converted_from: Pickled | None = field(default=None, metadata={"read": partial(_one, Pickled)})

    def to_json(self) -> Json:
        """The JSON object; without `converted_from` where there is nothing to say, as an index has it."""
        document = Document.to_json(self)
        return document if self.converted_from is not None else {k: v for k, v in document.items() if v is not None}

    @property
    def fetched(self) -> int:
        """How many bytes come over the network for it."""
        return self.converted_from.size if self.converted_from is not None else self.size


@frozen
class BaseModel(Document):
    """The frozen pretrained model an adapter was made for.

    `id` is a hub id; `revision` a 40-hex commit or None; `architecture` the class name of the bare model (BertModel);
    `weights_sha256` the hash of its weights file, or None; `quantization` None or e.g. {"method": "nf4"}.
    """

    id: str
    revision: str | None = None
    architecture: str | None = None
    weights_sha256: str | None = None
    quantization: Json | None = None


@frozen
class HubLocation(Document):
    """Where the bytes live: a hub repository at a 40-hex commit, never a branch."""

    repo: str
    commit: str


@frozen
class Origin(Document):
    """An archive elsewhere that holds the adapter in another library's form: a URL, and hashes of the archive itself.

    `format` is "zip"; `library` is the one that reads what is in it, `version` what its index calls it, `card` the file of that
    index.
    """

    url: str
    sha256: str
    format: str
    library: str
    sha1: str | None = None
    version: str | None = None
    card: str | None = None


@frozen
class Head(Document):
    """The task modules trained with an adapter: labels in order of their ids, and module names."""

    labels: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


@frozen
class Metric(Document):
    """One measured figure; `n` examples, `interval` the 95 % confidence interval [low, high]."""

    name: str
    value: float
    dataset: str
    split: str
    n: int | None = None
    seed: int | None = None
    interval: tuple[float, float] | None = None


@frozen
class Yanked(Document):
    """Why and when a release was withdrawn, and what to take instead."""

    reason: str
    date: str
    replacement: str | None = None


@frozen
class Release(Document):
    """One version of one entry. `status` is one of active, archived, deprecated, quarantined.

    One with an `origin` and no files is listed, and not installed.
    """

    version: str
    license: str
    published: str
    method: str | None = None
    method_config: Json = field(default_factory=dict)
    expression: str | None = None
    requires: Json = field(default_factory=dict)
    base: BaseModel | None = field(default=None, metadata={"read": partial(_one, BaseModel)})
    task: str | None = None
    language: tuple[str, ...] = ()
    files: tuple[FileSpec, ...] = field(default=(), metadata={"read": partial(_many, FileSpec)})
    hub: HubLocation | None = field(default=None, metadata={"read": partial(_one, HubLocation)})
    head: Head | None = field(default=None, metadata={"read": partial(_one, Head)})
    metrics: tuple[Metric, ...] = field(default=(), metadata={"read": partial(_many, Metric)})
    training: Json = field(default_factory=dict)
    yanked: Yanked | None = field(default=None, metadata={"read": partial(_one, Yanked)})
    status: str = "active"
    status_reason: str | None = None
    origin: Origin | None = field(default=None, metadata={"read": partial(_one, Origin)})

    def to_json(self) -> Json:
        """The JSON object; without `origin` where there is none, as most have it."""
        document = Document.to_json(self)
        return document if self.origin is not None else {k: v for k, v in document.items() if k != "origin"}

    @property
    def elsewhere(self) -> bool:
        """Whether it is an archive somewhere else, of which there is nothing to install."""
        return self.origin is not None and not self.files


@frozen
class Entry(Document):
    """One name of an index with all its releases. `kind` is one of adapter, composition, fusion."""

    v: int
    kind: str
    name: str
    description: str
    authors: tuple[Json, ...]
    releases: tuple[Release, ...] = field(metadata={"read": partial(_many, Release)})


@frozen
class Resolved:
    """One ref resolved to one release: what `install` fetches and `lock` pins.

    `name` is `group/name`, or `hf:org/repo` for a repository without an index entry; `version` is a SemVer version, or the
    40-hex commit for `hf:`. `endpoint` is the hub the index names for its files, or that an `hf:` ref was resolved at (None:
    the person's own HF_ENDPOINT). `file_roots` are folders or URLs (`<root>/<sha256>`) beside the index that may hold the
    files by hash.
    `entry_sha256` hashes the bytes of the entry as served (None for `hf:`). `parts` are the releases that a composition or a
    fusion requires, directly or not, each before what needs it; `pins` their versions by name.
    """

    name: str
    version: str
    requested: str
    release: Release
    index: str
    kind: str = "adapter"
    description: str = ""
    entry_sha256: str | None = None
    snapshot_sha256: str | None = None
    endpoint: str | None = None
    file_roots: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    pins: Json = field(default_factory=dict)
    parts: tuple[Resolved, ...] = ()


@frozen
class Record(Document):
    """What the store writes beside an installed adapter: everything `list`, `verify`, `run` need, with no index at hand.

    `pins` is, of a composition or a fusion, the exact version by name of all that it was installed with. `measured` holds the
    figures that were measured on this machine (`hubcli.measured`); an install that fetches anew starts without.
    """

    v: int
    name: str
    version: str
    requested: str
    index: str
    kind: str
    description: str
    release: Release = field(metadata={"read": Release.from_json})
    entry_sha256: str | None = None
    endpoint: str | None = None
    pins: Json = field(default_factory=dict)
    measured: tuple[Json, ...] = ()

    def to_json(self) -> Json:
        """The JSON object; without `measured` where nothing was."""
        document = Document.to_json(self)
        return document if self.measured else {key: value for key, value in document.items() if key != "measured"}


@frozen
class Installed:
    """An adapter in the store: its record and the folder with its files."""

    record: Record
    path: str
    changed: bool = False
