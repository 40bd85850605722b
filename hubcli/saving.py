"""An adapter written as a folder of a format, from its parts alone. Nothing here touches a live model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli import formats
from hubcli.errors import UnsupportedError
from hubcli.formats import Origin
from hubcli.manifest import BaseModel
from hubcli.method import Method, Site
from hubcli.plugins import plugins

if TYPE_CHECKING:
    from torch import Tensor

    from hubcli.families import Structure

Tree = dict[str, dict[str, "Tensor"]]


@dataclass(slots=True)
class Parts:
    """What is written of an adapter: its tensors by site, its replaced modules' by path, and what is said of them.

    `task` is peft's task type; `added` a head beside the model's modules; `others` tensors that belong to neither, by the key
    that they had; `filed_as` the name that AdapterHub's keys have; `start` what its paths begin with (the model's own prefix).
    """

    name: str
    method: Method[Any]
    config: dict[str, Any]
    settings: Any
    sites: dict[Site, dict[str, Tensor]]
    heads: Tree
    base: BaseModel | None = None
    labels: tuple[str, ...] = ()
    task: str | None = None
    added: tuple[dict[str, Any], dict[str, Tensor]] | None = None
    filed_as: str = ""
    others: dict[str, Tensor] = field(default_factory=dict)
    origin: Origin | None = None
    start: str = ""


def write(parts: Parts, folder: Path, format: str, structure: Structure | None) -> None:
    """Write an adapter in a format.

    `structure` is the base's, of which no weight is read; without it only what every format keeps under its own module's
    path can be written, and nothing in AdapterHub's format.

    Raises:
        UnsupportedError: the format can't hold it, or the method has no table for the format.
    """
    from hubcli.formats import adapterhub, own, peft

    formats.check_format(format)
    sites = {site.path: dict(tensors) for site, tensors in parts.sites.items()}
    if len(sites) < len(parts.sites):
        raise UnsupportedError(f"'{parts.name}' has several sites at one module, which no format can tell apart")
    if format == own.FORMAT:
        _without_copies(parts, sites)
        own.write(folder, parts.method.name, parts.config, parts.base, sites, parts.heads, parts.labels, parts.added,
                  parts.origin, parts.others, parts.task)  # fmt: skip
        return
    table, kind = table_of(parts.method, format)
    if format == adapterhub.FORMAT:
        assert structure is not None, "AdapterHub's files are written for a model"
        _for_adapterhub(parts, folder, structure, table)
        return
    if parts.added is not None:
        raise UnsupportedError(
            f"'{parts.name}' brings a head of its own ({parts.added[0].get('head_type')}), which peft's files can't hold",
            hint=f"format='{own.FORMAT}' or '{adapterhub.FORMAT}' holds it",
        )
    peft.write(folder, *_for_peft(parts, structure, kind, sites), parts.heads, table, parts.origin, parts.others,
               parts.labels)  # fmt: skip


def table_of(method: Method[Any], format: str) -> tuple[Mapping[str, str], Any]:
    """(how keys end, what the config calls the method) in another library's format; nothing for hubcli's own.

    Raises:
        UnsupportedError: the method has no such files.
    """
    if format == "hubcli":
        return {}, None
    table, kind = method.formats.get(format), plugins().method(method.name).claims.get(format)
    if table is None or kind is None:
        others = [other for other in ("peft", "adapterhub") if other in method.formats and other != format]
        raise UnsupportedError(
            f"method '{method.name}' can't be written as '{format}'",
            hint=f"format='hubcli' holds any method{', ' + others[0] + ' this one too' if others else ''}",
        )
    return table, kind


def _for_peft(parts: Parts, structure: Structure | None, kind: Any, sites: Tree) -> tuple[dict[str, Any], Tree]:
    """(config, tensors) as peft's files keep them."""
    kept = parts.config
    if structure is not None:
        kept, sites = parts.method.gathered(structure, parts.settings, "peft", parts.config, parts.sites)
    base = parts.base
    return {
        "task_type": parts.task,
        **kept,
        "peft_type": kind,
        "base_model_name_or_path": base.id if base else parts.config.get("base_model_name_or_path"),
        "revision": base.revision if base else parts.config.get("revision"),
    }, sites


def _without_copies(parts: Parts, sites: Tree) -> None:
    """A tensor that sites share is written once, at the first of them."""
    written: set[tuple[str, str]] = set()
    for site in parts.sites:
        for shared in parts.method.shares(site, parts.settings).items():
            if shared in written:
                del sites[site.path][shared[0]]
            written.add(shared)


def _for_adapterhub(parts: Parts, folder: Path, structure: Structure, table: Mapping[str, str]) -> None:
    """Write AdapterHub's folder; its files hold no replaced modules, and file sites under its own modules' names."""
    from hubcli.formats import adapterhub

    said = parts.origin.documents if parts.origin is not None and parts.origin.format == adapterhub.FORMAT else {}
    if parts.heads and adapterhub.HEAD_CONFIG not in said:
        raise UnsupportedError(
            f"'{parts.name}' replaces {', '.join(parts.heads)}, which AdapterHub's files can't hold",
            hint="format='hubcli' holds it; an adapter that was added with head=None has none",
        )
    if parts.others:
        raise UnsupportedError(
            f"'{parts.name}' brings {min(parts.others)[:200]}, which AdapterHub's files can't hold",
            hint="format='hubcli' holds it",
        )
    config, sites = _filed(parts, structure)
    base = adapterhub.base_fields(structure, parts.base)
    if parts.start:  # a model of the library's own classes with heads, which has the bare model inside
        base["model_class"] = adapterhub.with_heads(base["model_class"])
    own = {key: value for key, value in config.items() if key != "modules_to_save"}
    adapterhub.write(folder, parts.filed_as or parts.name, own, base, _under(parts.start, sites), table, parts.added,
                     parts.heads, parts.origin)  # fmt: skip


def _under(start: str, sites: Tree) -> Tree:
    """The module paths as a model with a head around it has them."""
    return {f"{start}.{path}".strip("."): tensors for path, tensors in sites.items()}


def _filed(parts: Parts, structure: Structure) -> tuple[dict[str, Any], Tree]:
    """(config, tensors by AdapterHub's module paths, relative to the bare model)."""
    method = parts.method
    filed = method.filed(structure, parts.settings, "adapterhub")
    if filed is None:
        if type(method).gathered is Method.gathered:
            raise UnsupportedError(f"method '{method.name}' can't be written as 'adapterhub'")
        return method.gathered(structure, parts.settings, "adapterhub", parts.config, parts.sites)
    sites = {path: dict(parts.sites[site]) for path, site in filed.items()}
    whole: dict[str, Any] = {}  # what sites share stands there once, for the adapter as a whole
    for path, site in filed.items():
        whole |= {parameter: sites[path].pop(parameter) for parameter in method.shares(site, parts.settings)}
    if whole:
        sites[""] = whole
    return parts.config, sites
