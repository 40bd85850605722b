"""Adapter folders of different makers, in and out. The generic part: which keys belong to a method is the method's own table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli.errors import NotFoundError, UnsupportedError
from hubcli.manifest import BaseModel
from hubcli.plugins import plugins

if TYPE_CHECKING:
    from torch import Tensor

    from hubcli.formats.weights import Digest

FORMATS = ("peft", "adapterhub", "hubcli")


@dataclass(frozen=True, slots=True)
class Origin:
    """What another library's files said of an adapter, word for word, so that the way back to that library is complete.

    `documents` are its JSON files by name; `start` what the module paths in its keys began with (a model's prefix, or nothing).
    """

    format: str
    documents: dict[str, dict[str, Any]]
    start: str = ""


@dataclass(slots=True)
class Checkpoint:
    """An adapter as read from a folder.

    `tensors` maps module path → parameter → tensor, as the method names its parameters; `heads` maps the path of a replaced
    module → parameter → tensor; `others` are tensors that belong to neither, by key. Tensors are views of the mapped file.
    `digest` stands for the bytes of config and weights; `base` is what the config says it was trained on; `labels` are those of
    its head, where the format keeps them; `filed_as` the adapter's name, where the file has it in its keys; `added` a head that
    no module of the model is replaced by: (its config, parameter -> tensor); `origin` what the files of another library said.
    """

    format: str
    method: str
    config: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]
    heads: dict[str, dict[str, Tensor]]
    others: dict[str, Tensor]
    digest: Digest
    base: BaseModel | None
    notes: list[str] = field(default_factory=list)
    labels: tuple[str, ...] = ()
    filed_as: str = ""
    added: tuple[dict[str, Any], dict[str, Tensor]] | None = None
    origin: Origin | None = None


def read(folder: Path) -> Checkpoint:
    """Read the folder of an adapter, or of a fusion, of any supported format.

    Raises:
        NotFoundError: no such folder, or no adapter in it.
        UnsupportedError: a format that can't be read yet.
        WeightsError, MethodNotFoundError, PluginError, ConfigKeyError: as the format's reader says.
    """
    from hubcli.formats import adapterhub, fusions, own, peft

    if not folder.is_dir():
        raise NotFoundError(f"no folder at {folder}")
    if fusions.holds(folder):
        return fusions.read(folder)
    foreign = (folder / "adapter_config.json").is_file()
    if (folder / own.MANIFEST).is_file() and (not foreign or own.holds(folder)):
        if foreign:
            raise UnsupportedError(
                f"{folder} holds two adapters, by {own.MANIFEST} and by adapter_config.json: keep one"
            )
        return own.read(folder)
    if not foreign:
        raise NotFoundError(f"{folder} holds no adapter: adapter_config.json is missing")
    if adapterhub.holds(folder) and not (folder / peft.WEIGHTS).is_file():
        return adapterhub.read(folder)
    return peft.read(folder)


def shared(checkpoint: Checkpoint, method: str) -> bool:
    """Whether these files are another method's as well: both claim the same kind of config, and read the same parameters."""
    if method == checkpoint.method:
        return True
    infos = [plugins().method(name) for name in (method, checkpoint.method)]
    kinds = [info.claims.get(checkpoint.format) for info in infos]
    tables = [plugins().method_class(info.name).formats.get(checkpoint.format) for info in infos]
    return kinds[0] is not None and kinds[0] == kinds[1] and tables[0] == tables[1]


def check_format(name: str) -> None:
    """Refuse to write a format that is unknown or not supported yet."""
    if name not in FORMATS:
        raise UnsupportedError(f"format '{name}' can't be written; supported: {', '.join(FORMATS)}")
