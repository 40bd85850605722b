"""A checkpoint's tensors by this model's sites and modules, every name, shape and number checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hubcli.adapter import finite
from hubcli.errors import BaseMismatchError, ConfigKeyError, UnsupportedError, WeightsError
from hubcli.families import Structure
from hubcli.formats import Checkpoint
from hubcli.method import Method, Site, layer_index
from hubcli.residents import replica


def fitted(
    checkpoint: Checkpoint, method: Method[Any], settings: Any, structure: Structure
) -> dict[Site, dict[str, Tensor]]:
    """The checkpoint's tensors by this model's sites, every name and shape checked.

    Raises:
        BaseMismatchError: modules that the model hasn't, layers too many or too few, other shapes.
        WeightsError: tensors that the config doesn't name, missing or unknown parameters, NaN or infinity.
    """
    wanted = {
        site.path: site for site in structure.kept((method.name, settings), lambda: method.sites(structure, settings))
    }
    spread = method.spread(structure, settings, checkpoint.format, checkpoint.tensors)
    found = spread if spread is not None else _by_site(checkpoint, method, settings, structure, wanted)
    strange = next((site.path for site in found if spread is not None and site.path not in wanted), None)
    if strange is not None:
        raise WeightsError(f"{strange} has tensors, but the config doesn't name it")
    share(method, settings, found)
    for site, tensors in found.items():
        check_shapes(site, tensors, method.shapes(site, structure.modules[site.path], settings))
    missing = [path for path in wanted if wanted[path] not in found]
    if missing:
        raise _missing(missing, found, structure)
    return found


def _by_site(
    checkpoint: Checkpoint, method: Method[Any], settings: Any, structure: Structure, wanted: Mapping[str, Site]
) -> dict[Site, dict[str, Tensor]]:
    """A file's tensors by this model's sites, where the file keeps them by module."""
    filed = method.filed(structure, settings, checkpoint.format)
    found: dict[Site, dict[str, Tensor]] = {}
    unknown = []
    for path, tensors in checkpoint.tensors.items():
        if filed is not None:
            site = filed.get(structure.bare(path))
        else:
            if not method.claims(path, settings):
                raise WeightsError(f"{path} has tensors, but the config doesn't name it")
            own = structure.locate(path)
            site = None if own is None else wanted.get(own) or Site(own)
        if site is None:
            unknown.append(path)
        else:
            found[site] = dict(tensors)
    if unknown:
        raise absent(unknown, structure)
    return found


def share(method: Method[Any], settings: Any, sites: Mapping[Site, dict[str, Tensor]], *, fresh: bool = False) -> None:
    """Give sites that share a parameter the one tensor: the first that there is.

    Raises:
        WeightsError: two sites that share it have different numbers, and they are not fresh.
    """
    first: dict[tuple[str, str], Tensor] = {}
    for site, tensors in sites.items():
        for key in method.shares(site, settings).items():
            if key[0] in tensors:
                first.setdefault(key, tensors[key[0]])
    for site, tensors in sites.items():
        for key in method.shares(site, settings).items():
            if key in first and tensors.setdefault(key[0], first[key]) is not first[key]:
                if not fresh and not torch.equal(tensors[key[0]], first[key]):
                    raise WeightsError(f"{site.path}: {key[0]} differs from that of other layers, which share it")
                tensors[key[0]] = first[key]


def check_shapes(site: Site, tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Compare one site's tensors with what this model needs.

    Raises:
        WeightsError: missing or unknown parameters, NaN or infinity. BaseMismatchError: other shapes.
    """
    if set(tensors) != set(expected):
        raise WeightsError(f"{site.path}: expected {', '.join(sorted(expected))}, found {', '.join(sorted(tensors))}")
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != expected[name]:
            raise BaseMismatchError(
                f"{site.path}: {name} has shape {tuple(tensor.shape)}, this model needs {expected[name]}",
                hint="the adapter was made for a base of another size, or its rank is not what its config says",
            )
        if not finite(tensor):
            raise WeightsError(f"{site.path}: {name} holds NaN or infinity", id="E_WEIGHTS_NONFINITE")


def _deepest(paths: Iterable[str]) -> int | None:
    found = [index for path in paths if (index := layer_index(f"x.x.{path}")) is not None]
    return max(found) + 1 if found else None


def absent(unknown: list[str], structure: Structure) -> BaseMismatchError:
    """The model lacks modules: too few layers, if it has the first of them, else another architecture."""
    twin = structure.locate(_first_layer(unknown[0]))
    needed, have = _deepest(unknown), structure.layers([twin] if twin else [])
    if needed is not None and have is not None and needed > have:
        return BaseMismatchError(
            f"layer count: the adapter was made for at least {needed} layers, this model has {have}"
        )
    return BaseMismatchError(
        f"modules: the adapter adapts {unknown[0]}, which this {structure.base_class} has not ({len(unknown)} such modules)"
    )


def _first_layer(path: str) -> str:
    parts = path.split(".")
    at = next((i for i, part in enumerate(parts) if part.isdecimal()), None)
    return path if at is None else ".".join([*parts[:at], "0", *parts[at + 1 :]])


def _missing(missing: list[str], found: Mapping[Site, Any], structure: Structure) -> BaseMismatchError | WeightsError:
    covered, have = _deepest(site.path for site in found), structure.layers(missing)
    if covered is not None and have is not None and covered < have and (_deepest(missing[:1]) or 0) > covered:
        return BaseMismatchError(f"layer count: the adapter was made for {covered} layers, this model has {have}")
    return WeightsError(
        f"{missing[0]}: the config names it, but there are no tensors for it ({len(missing)} such modules)"
    )


def replicas(checkpoint: Checkpoint, structure: Structure) -> dict[str, nn.Module]:
    """The modules that the checkpoint replaces, with its tensors in them.

    Raises:
        BaseMismatchError: the model has no such module.
        WeightsError: missing or unknown parameters, NaN or infinity.
        UnsupportedError: embeddings that were resized for new tokens.
    """
    made: dict[str, nn.Module] = {}
    for path, tensors in checkpoint.heads.items():
        own = structure.locate(path)
        if own is None:
            raise BaseMismatchError(
                f"head: the adapter replaces {path}, which this {structure.base_class} has not",
                hint="load the base with that head, or leave the base to load_adapter",
            )
        module = structure.modules[own]
        for name, tensor in tensors.items():
            if not finite(tensor):
                raise WeightsError(f"{path}.{name} holds NaN or infinity", id="E_WEIGHTS_NONFINITE")
        made[own] = replica(module, tensors, path)
        _check_width(path, module, made[own])
    _check_others(checkpoint, structure)
    return made


def _check_width(path: str, module: nn.Module, twin: nn.Module) -> None:
    """Only a head's outputs may differ in number from the model's own."""
    for (name, own), given in zip(module.named_parameters(), twin.parameters(), strict=True):
        if isinstance(module, nn.Embedding) and own.shape != given.shape:
            raise UnsupportedError(
                f"{path}.{name}: expected shape {tuple(own.shape)}, found {tuple(given.shape)}; "
                "adapters with resized embeddings are not supported yet"
            )
        if own.shape[1:] != given.shape[1:]:
            raise BaseMismatchError(
                f"{path}.{name} has shape {tuple(given.shape)}, this model needs {tuple(own.shape)}"
            )


def _check_others(checkpoint: Checkpoint, structure: Structure) -> None:
    """Copies of the base's own tensors (peft saves targeted embeddings) change nothing; anything else is refused."""
    own = dict(structure.model.named_parameters(remove_duplicate=False)) if checkpoint.others else {}
    for key, tensor in checkpoint.others.items():
        bare = key.removeprefix("base_model.model.").replace(".base_layer.", ".")
        base = own.get(bare)
        if (
            base is not None
            and base.shape == tensor.shape
            and torch.equal(base.detach().cpu().to(tensor.dtype), tensor)
        ):
            checkpoint.notes.append(f"{key} equals the base's and is not kept")
        elif base is not None and base.shape != tensor.shape:
            raise UnsupportedError(
                f"{key}: expected shape {tuple(base.shape)}, found {tuple(tensor.shape)}; "
                "adapters with resized embeddings are not supported yet"
            )
        elif base is not None:
            raise ConfigKeyError(
                f"{key}: the adapter brings other base weights than this model's, which is not supported"
            )
        else:
            raise WeightsError(f"{key}: no part of the method, and in no module of modules_to_save")
