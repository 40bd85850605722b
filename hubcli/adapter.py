"""One loaded adapter: its own tensors, its leaves at the model's sites, its replaced modules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hubcli.added_heads import AddedHead
from hubcli.errors import BaseMismatchError, ConfigKeyError, UnsupportedError, WeightsError
from hubcli.families import Structure
from hubcli.formats import Checkpoint
from hubcli.formats.weights import Digest
from hubcli.manifest import BaseModel
from hubcli.method import Leaf, Method, Site, layer_index
from hubcli.residents import Room, replica


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """What `adapted.adapters` shows of an adapter.

    `parameters` counts numbers, heads included; `heads` are the modules it replaces; `labels` of its head, or None;
    `added_head` the kind of a head that it brings beside the model's modules, or empty.
    """

    name: str
    method: str
    config: Mapping[str, Any]
    parameters: int
    heads: tuple[str, ...]
    labels: tuple[str, ...] | None
    base: BaseModel | None
    source: str
    trainable: bool
    notes: tuple[str, ...] = ()
    added_head: str = ""


@dataclass(eq=False)
class Adapter:
    """A resident adapter. `sites` holds its tensors (views of its file, or Parameters once it trains)."""

    name: str
    method: Method[Any]
    config: dict[str, Any]
    settings: Any
    sites: dict[Site, dict[str, Tensor]]
    heads: dict[str, nn.Module]
    room: Room
    added: AddedHead | None = None
    digest: Digest | None = None
    labels: tuple[str, ...] | None = None
    base: BaseModel | None = None
    source: str = ""
    filed_as: str = ""
    notes: list[str] = field(default_factory=list)
    trainable: bool = False
    _leaves: dict[Site, Leaf] = field(default_factory=dict)
    _taps: dict[Site, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """A site in the model may serve several taps; which one is ours is kept here."""
        self._taps = {site: site.tap for site in self.sites if site.tap is not None}

    def leaf(self, site: Site, module: nn.Module) -> Leaf | None:
        """Its leaf at a site, made once; None where it adds nothing."""
        tensors = self.sites.get(site)
        if tensors is None:
            return None
        leaf = self._leaves.get(site)
        if leaf is None:
            placed = tensors if self.trainable else cast(tensors, *place(module))
            leaf = self._leaves[site] = self.method.leaf(site, module, self.settings, placed, self.trainable)
            leaf.tap = self._taps.get(site)
        return leaf

    def twins(self) -> list[nn.Module]:
        """The modules of its heads."""
        return [*self.heads.values(), *([self.added] if self.added is not None else [])]

    def forget(self) -> None:
        """Drop what was made of the tensors: they moved, or they train."""
        for tensors in self.sites.values() if self.room.moved else ():
            for name, tensor in tensors.items():
                tensors[name] = self.room.moved.get(id(tensor), tensor)
        self.room.moved = {}
        self._leaves.clear()

    def parameters(self) -> list[nn.Parameter]:
        """What is registered in its room."""
        return list(self.room.parameters())

    def train(self, wanted: bool, modules: Mapping[str, nn.Module]) -> None:
        """Make its tensors Parameters that train, or stop that. Training is in fp32, or in the base's dtype if finer."""
        self.trainable = wanted
        if wanted:
            made: dict[int, nn.Parameter] = {}  # a tensor that sites share stays one
            for site, tensors in self.sites.items():
                device, dtype = place(modules[site.path])
                finer = torch.promote_types(dtype, torch.float32)
                for name, tensor in tensors.items():
                    if not isinstance(tensor, nn.Parameter):
                        if id(tensor) not in made:
                            fresh = tensor.detach().to(device, finer, copy=True)
                            # one module may have two sites, as under a fusion
                            at = site.path if site.port == "output" else f"{site.path}:{site.port}"
                            made[id(tensor)] = self.room.keep(at, name, fresh, trains=True)
                        tensors[name] = made[id(tensor)]
                    else:
                        tensor.data = tensor.data.to(finer)
            self._own_heads()
        for parameter in self.parameters():
            parameter.requires_grad_(wanted)
        self.forget()

    def _own_heads(self) -> None:
        """Copies of the head's numbers: a mapped file is no place to train in."""
        with torch.no_grad():
            for twin in self.twins():
                for parameter in twin.parameters():
                    if not parameter.requires_grad:
                        parameter.data = parameter.detach().clone()

    def info(self) -> AdapterInfo:
        """Its description."""
        own = {id(t): t.numel() for tensors in self.sites.values() for t in tensors.values()}
        count = sum(own.values())
        count += sum(p.numel() for twin in self.twins() for p in twin.parameters())
        return AdapterInfo(
            self.name, self.method.name, dict(self.config), count, tuple(self.heads), self.labels, self.base, self.source,
            self.trainable, tuple(self.notes), self.added.kind if self.added is not None else "",
        )  # fmt: skip


def place(module: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Where a site's deltas are computed: its weight's device, and its dtype (the compute dtype of a quantised module)."""
    parameter = next((p for p in module._parameters.values() if p is not None), None)
    if parameter is None:
        inner = list(module.parameters())  # of a quantised model's block the first may be whole numbers
        parameter = next((p for p in inner if p.is_floating_point()), next(iter(inner), None))
    if parameter is None:
        return torch.device("cpu"), torch.get_default_dtype()
    if parameter.is_floating_point():
        return parameter.device, parameter.dtype
    dtype = getattr(module, "compute_dtype", None)
    return parameter.device, dtype if isinstance(dtype, torch.dtype) else torch.get_default_dtype()


def cast(tensors: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors on a device in a dtype, detached; views where nothing changes."""
    return {name: tensor.detach().to(device, dtype) for name, tensor in tensors.items()}


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


def finite(tensor: Tensor) -> bool:
    """Whether every number is finite. A sum says so in one pass; only a sum that overflows asks for a second."""
    return math.isfinite(tensor.sum(dtype=torch.promote_types(tensor.dtype, torch.float32)).item()) or bool(
        torch.isfinite(tensor).all()
    )


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
