"""A fusion's folder as another format's: where its layers belong, its adapters' own files say."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from hubcli import fusion_files
from hubcli.adapter import Adapter
from hubcli.composition import leaves
from hubcli.errors import UnsupportedError
from hubcli.families import Structure
from hubcli.fitting import fitted
from hubcli.formats import Checkpoint, read
from hubcli.fusion import Fusion
from hubcli.loading import Source
from hubcli.plugins import plugins
from hubcli.residents import Room
from hubcli.shapes import start_of


def convert(
    found: Source, checkpoint: Checkpoint, to: str, folder: Path, structure: Structure, children: Sequence[Path]
) -> None:
    """Write a fusion.

    Raises:
        UnsupportedError: a child is not at hand; else as `hubcli.fusion_files.fitted` and `save`.
    """
    adapters: dict[str, Adapter] = {}
    method = Fusion(adapters, structure.model)
    settings = method.configure(checkpoint.config)
    for name in dict.fromkeys(name for child in settings.of for name in leaves(child)):
        adapters[name] = _child(name, found, structure, children)
    made = Adapter(
        name=checkpoint.filed_as or found.name,
        method=method,
        config=checkpoint.config,
        settings=settings,
        sites=fusion_files.fitted(checkpoint, method, settings, structure),
        heads={},
        room=Room(None),  # type: ignore[arg-type]
        base=checkpoint.base,
        filed_as=checkpoint.filed_as,
    )
    if checkpoint.heads:
        raise UnsupportedError(f"{found.name} replaces {', '.join(checkpoint.heads)}, which {to}'s files can't hold")
    origin = checkpoint.origin
    if origin is not None:
        origin = dataclasses.replace(origin, start=start_of(checkpoint.tensors, structure) or origin.start)
    fusion_files.save(made, folder, to, structure, origin)


def _child(name: str, found: Source, structure: Structure, given: Sequence[Path]) -> Adapter:
    """An adapter that the fusion is over: of the folders given, or beside the fusion's own."""
    plain = name.rpartition("/")[2]
    beside = (found.folder.parent / plain, found.folder.parent.parent / "adapters" / plain)
    for folder in (*given, *(folder for folder in beside if folder.is_dir())):
        checkpoint = read(folder)
        if {checkpoint.filed_as, folder.name} & {name, plain}:
            method = plugins().method_class(checkpoint.method)()
            settings = method.configure(checkpoint.config)
            sites = fitted(checkpoint, method, settings, structure)
            return Adapter(
                name, method, checkpoint.config, settings, sites, {}, Room(None),  # type: ignore[arg-type]
                base=checkpoint.base, filed_as=checkpoint.filed_as,
            )  # fmt: skip
    raise UnsupportedError(
        f"{found.name}: where a fusion's layers belong its adapters say, and '{name}' is not at hand",
        hint="--child FOLDER for each adapter that it was trained over",
    )
