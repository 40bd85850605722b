"""One loaded adapter: its own tensors, its leaves at the model's sites, its replaced modules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hubcli.added_heads import AddedHead
from hubcli.formats.weights import Digest
from hubcli.manifest import BaseModel
from hubcli.method import Leaf, Method, Site
from hubcli.residents import Room

if TYPE_CHECKING:
    from hubcli.own_tokenizers import OwnTokenizer


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
    tokenizer: OwnTokenizer | None = None  # the base's, where it brings none
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
            self.digest = None  # it is no longer what its file says
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


def finite(tensor: Tensor) -> bool:
    """Whether every number is finite. A sum says so in one pass; only a sum that overflows asks for a second."""
    return math.isfinite(tensor.sum(dtype=torch.promote_types(tensor.dtype, torch.float32)).item()) or bool(
        torch.isfinite(tensor).all()
    )
