"""A fusion's tensors between its folder and this model's sites."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from hubcli.adapter import Adapter
from hubcli.composition import leaves
from hubcli.errors import NotFoundError, UnsupportedError, WeightsError
from hubcli.fitting import absent, check_shapes
from hubcli.formats import Checkpoint, Origin, adapterhub, check_format, fusions, own
from hubcli.fusion import PORTS, Fusion
from hubcli.fusion_rules import is_fusion
from hubcli.fusion_settings import FusionSettings
from hubcli.method import Site

if TYPE_CHECKING:
    from hubcli.families import Structure

Places = Mapping[str, Site]


def fitted(
    checkpoint: Checkpoint, method: Fusion, settings: FusionSettings, structure: Structure
) -> dict[Site, dict[str, Tensor]]:
    """The checkpoint's tensors by this model's sites, every name and shape checked.

    Raises:
        BaseMismatchError: modules that the model hasn't, other shapes.
        WeightsError: missing or unknown tensors, NaN or infinity.
        NotFoundError, UnsupportedError: as `_adapterhubs_places`.
    """
    if checkpoint.format == own.FORMAT:
        placed = {path: _own_site(path, structure) for path in checkpoint.tensors}
    else:
        places = _adapterhubs_places(settings, structure, method.adapters, checkpoint.tensors)
        placed = {path: places.get(structure.bare(path)) for path in checkpoint.tensors}
    unknown = [path for path, site in placed.items() if site is None]
    if unknown:
        raise absent(unknown, structure)
    if not placed:
        raise WeightsError("expected the weights of a fusion, found no tensor of one")
    found: dict[Site, dict[str, Tensor]] = {}
    for path, site in placed.items():
        assert site is not None
        tensors = checkpoint.tensors[path]
        check_shapes(site, tensors, method.shapes(site, structure.modules[site.path], settings))
        found[site] = tensors
    return found


def _own_site(path: str, structure: Structure) -> Site | None:
    module, _, port = path.rpartition(":")
    if port not in PORTS:
        raise WeightsError(f"{path}: expected a site's module and one of the ports {', '.join(PORTS)}")
    found = structure.locate(module)
    return None if found is None else Site(found, port)


def _adapterhubs_places(
    settings: FusionSettings, structure: Structure, adapters: Mapping[str, Adapter], filed: Mapping[str, Any]
) -> dict[str, Site]:
    """Where AdapterHub's module paths lie in this model. Its fusion folders do not say: their children do.

    Raises:
        NotFoundError: none of the children is loaded.
        UnsupportedError: the children act in other places than one another, or where its library fuses otherwise.
        WeightsError: there are no weights for a place where all the children act.
    """
    names = [name for child in settings.of for name in leaves(child)]
    children = {name: child for name in names if (child := _called(name, adapters)) is not None}
    maps = {name: found for name, child in children.items() if (found := _filed(child, structure)) is not None}
    if not maps:
        raise NotFoundError(
            f"an AdapterHub fusion's folder doesn't say where its layers belong, its adapters do: {', '.join(names)}",
            hint="load these adapters first",
        )
    bare = {structure.bare(path) for path in filed}
    places: dict[str, Site] = {}
    for path in sorted(set().union(*maps.values())):
        sites = {name: found.get(path) for name, found in maps.items()}
        _check_same(path, sites)
        site = next(site for site in sites.values() if site is not None)
        if path not in bare:
            raise WeightsError(f"{path}: {', '.join(sites)} act there, but the fusion has no weights for it")
        places[path] = Site(site.path, site.port)
    return places


def _called(name: str, adapters: Mapping[str, Adapter]) -> Adapter | None:
    """The loaded adapter of this name, else the one whose file has it."""
    if name in adapters and not is_fusion(adapters[name]):
        return adapters[name]
    return next((a for a in adapters.values() if a.filed_as == name and not is_fusion(a)), None)


def _filed(child: Adapter, structure: Structure) -> Places | None:
    return child.method.filed(structure, child.settings, adapterhub.FORMAT)


def _check_same(path: str, sites: Mapping[str, Site | None]) -> None:
    """Refuse places that differ between the children, and those where AdapterHub's library computes something else."""
    if len(set(sites.values())) > 1:
        shown = ", ".join(f"{name} at {site.path if site else 'no module'}" for name, site in sites.items())
        raise UnsupportedError(f"{path}: AdapterHub's library fuses adapters of one place, found {shown}")
    tapped = next((name for name, site in sites.items() if site is not None and site.tap is not None), None)
    if tapped is not None:
        # adapters 1.3.0 adds the residual, which is also its query there, a second time.
        raise UnsupportedError(
            f"{path}: AdapterHub's library fuses adapters that read another module's input, as '{tapped}' does, otherwise"
        )


def save(made: Adapter, folder: Path, format: str, structure: Structure, origin: Origin | None = None) -> None:
    """Write a fusion's folder; `origin` is what the files of another library said of it.

    Raises:
        UnsupportedError: peft has none; AdapterHub's can't hold its head, or children that are blocks, are not loaded, or are
            of methods that AdapterHub doesn't fuse.
    """
    check_format(format)
    if format == own.FORMAT:
        sites = {f"{site.path}:{site.port}": dict(tensors) for site, tensors in made.sites.items()}
        heads = {path: dict(twin.named_parameters()) for path, twin in made.heads.items()}
        fusions.write_own(folder, made.config, made.base, sites, heads, made.labels or (), origin)
        return
    hint = f"format='{own.FORMAT}' holds any fusion"
    if format != adapterhub.FORMAT:
        raise UnsupportedError(f"'{made.name}': a fusion can't be written as '{format}'", hint=hint)
    if made.heads:
        raise UnsupportedError(
            f"'{made.name}' replaces {', '.join(made.heads)}, which AdapterHub's fusion files can't hold", hint=hint
        )
    children = [child for child in made.settings.of if isinstance(child, str)]
    if len(children) < len(made.settings.of):
        raise UnsupportedError(
            f"'{made.name}': AdapterHub's fusion files name adapters, not {made.config['of']}", hint=hint
        )
    filed = _adapterhubs_sites(made, structure, hint)
    named = [found.filed_as or name for name in children if (found := _called(name, made.method.adapters))]  # type: ignore[attr-defined]
    config = {key: value for key, value in made.config.items() if key not in ("of", "modules_to_save")}
    base = adapterhub.base_fields(structure, made.base)
    start = origin.start if origin is not None else ""
    placed = {f"{start}.{path}".strip("."): tensors for path, tensors in filed.items()}
    fusions.write_adapterhubs(folder, made.filed_as or ",".join(named), named, config, base, placed, origin)


def _adapterhubs_sites(made: Adapter, structure: Structure, hint: str) -> dict[str, dict[str, Tensor]]:
    """The fusion's tensors by AdapterHub's module paths."""
    assert isinstance(made.method, Fusion)
    everywhere: dict[str, Site] = {}
    for name in (name for child in made.settings.of for name in leaves(child)):
        child = _called(name, made.method.adapters)
        found = None if child is None else _filed(child, structure)
        if found is None:
            raise UnsupportedError(
                f"'{made.name}': where AdapterHub keeps '{name}' is not known: "
                + (
                    "it is not loaded"
                    if child is None
                    else f"its library fuses no adapters of method '{child.method.name}'"
                ),
                hint=hint,
            )
        for path, site in found.items():
            _check_same(path, {made.name: everywhere.get(path, site), name: site})
            everywhere[path] = site
    if {Site(site.path, site.port) for site in everywhere.values()} != set(made.sites):
        raise UnsupportedError(f"'{made.name}' has other sites than the adapters it fuses", hint=hint)
    return {path: dict(made.sites[site]) for path, site in everywhere.items()}
