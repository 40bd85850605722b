"""What a fuse would put in place: everything is made and checked here, and the model is not touched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from hubcli import quantised
from hubcli.adapter import Adapter, cast, place
from hubcli.attention import AttentionSite
from hubcli.baked import Baked
from hubcli.engine import Engine
from hubcli.errors import UnsupportedError
from hubcli.fold import Port, UnfoldableError, check_leaves, folded
from hubcli.folded_heads import one_module, several
from hubcli.method import Leaf
from hubcli.ordinary import Around, Head, Ordinary
from hubcli.plan import Program
from hubcli.positions import decoder_positions
from hubcli.prefixes import plan_prefixes
from hubcli.pretrained import LABELLED
from hubcli.sites import HeadSite, LiveSite
from hubcli.swaps import AroundSwap, AttributeSwap, ChildSwap, HookSwap, Move, ParameterSwap, SiteSwap, Swap

PORTS = ("input", "output")


@dataclass(eq=False)
class Fused:
    """What was done to a model: `weights` are the modules whose parameters changed, `heads` those that were replaced, `modules`
    those around which something acts; `rounding` is by how much rounding to the model's dtype moved a folded number at most.
    """

    program: Program
    before: Program
    weights: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    rounding: float = 0.0
    swaps: list[Swap] = field(default_factory=list)
    moved: bool = False

    def move(self, function: Move) -> None:
        """The model moved: so does what is kept for unfuse."""
        self.moved = True
        for swap in self.swaps:
            swap.move(function)


class FusePlan:
    """The plan of one fuse; `weights_only` refuses what is no weight."""

    def __init__(self, engine: Engine, program: Program, weights_only: bool):
        self.engine, self.program, self.weights_only = engine, program, weights_only
        self.modules = engine.structure.modules
        self.used: dict[str, Adapter] = {name: engine.adapters[name] for name in program.names}
        self.record = Fused(program, engine.routing.active)
        self.new: dict[str, nn.Module] = {}  # what takes a module's place, by path
        self.parameters: list[ParameterSwap] = []
        self.around: dict[str, Around] = {}
        self.baked: dict[str, Baked] = {}

    def made(self) -> Fused:
        """Everything that is to be put in place, in order.

        Raises:
            UnsupportedError: with `weights_only`, what is no weight, by name. WeightsError: NaN or infinity.
        """
        if self.weights_only:
            self._check_weights_only()
        steps = zip(self.engine.live, self.program.steps, strict=False)  # a program may be older than a site
        acting = [(live, step) for live, step in steps if step is not None]
        sites: dict[str, dict[str, LiveSite]] = {}
        for live, step in acting:
            if isinstance(live, HeadSite):
                self._head(live, step)
            elif isinstance(live, AttentionSite):
                self._attention(live)
            else:
                sites.setdefault(live.site.path, {})[live.site.port] = live
        for path, lives in sites.items():
            self._site(path, lives)
        self._positions()
        self.record.modules = [*self.around, *self.baked]
        self.record.swaps = [
            *self._unhooked(),
            *self._replaced(),
            *self.parameters,
            *(AroundSwap(self._module(path), around) for path, around in self.around.items()),
            *self._labels(),
        ]
        return self.record

    def _check_weights_only(self) -> None:
        for name, adapter in self.used.items():
            if adapter.added is not None:
                raise UnsupportedError(
                    f"'{name}' brings a head of its own ({adapter.added.kind}), for which this model has no module: a "
                    "checkpoint can't hold it"
                )
        if self.program.shift is not None:
            raise _no_weight(f"{self.program} moves the positions of tokens, which")

    def _module(self, path: str) -> nn.Module:
        """What will stand at a path."""
        return self.new.get(path) or self.modules[path]

    def _leaves(self, live: LiveSite, *, exact: bool) -> dict[str, Leaf]:
        """The frozen leaves of one site, in its dtype; `exact`: in float32 or finer, to be added up."""
        found: dict[str, Leaf] = {}
        device, dtype = place(live.module)
        wanted = torch.promote_types(dtype, torch.float32) if exact else dtype
        for name, adapter in self.used.items():
            leaf = adapter.leaf(live.site, live.module)
            if leaf is None:
                continue
            if leaf.trainable or wanted != dtype:
                placed, tap = cast(adapter.sites[live.site], device, wanted), leaf.tap
                leaf = adapter.method.leaf(live.site, live.module, adapter.settings, placed, False)
                leaf.tap = tap
            found[name] = leaf
        return found

    def _site(self, path: str, lives: dict[str, LiveSite]) -> None:
        """Fold what acts at both ports, or at the output alone; what is left acts around the module."""
        order = [port for port in PORTS if port in lives]
        why: UnfoldableError | None = None
        for start in range(len(order)):
            try:
                self._fold(path, [lives[port] for port in order[start:]])
            except UnfoldableError as error:
                why = why or error
                continue
            order = order[:start]
            break
        for port in order:
            if self.weights_only:
                raise _no_weight(f"{path}: {why}, which")
            self._wrap(path, lives[port])

    def _fold(self, path: str, lives: Sequence[LiveSite]) -> None:
        module, weight = self._module(path), None
        ports = [Port(live.site, self.program.expr, self._leaves(live, exact=True)) for live in lives]
        plain = module
        if quantised.is_quantised(module):
            plain, weight = quantised.full_precision(module), quantised.dequantised(module)
        made = folded(ports, plain, weight)
        if plain is not module and "weight" in made.parameters:
            self.new[path] = module = plain
        for name, tensor in made.parameters.items():
            own = module._parameters.get(name)
            flag = any(p is not None and p.requires_grad for p in ([own] if own is not None else module.parameters()))
            self.parameters.append(ParameterSwap(module, name, nn.Parameter(tensor, requires_grad=flag)))
        self.record.rounding = max(self.record.rounding, made.rounding)
        self.record.weights.append(path)

    def _wrap(self, path: str, live: LiveSite) -> None:
        leaves = self._leaves(live, exact=False)
        check_leaves(path, leaves)
        around, port = self._around(path), live.site.port
        made = Ordinary(self.program.expr, leaves)
        setattr(around, port, made)
        for tap in dict.fromkeys(leaf.tap for leaf in made.leaves.values() if leaf.tap is not None):
            around.listen(port, tap, self._around(tap))

    def _around(self, path: str) -> Around:
        return self.around.setdefault(path, Around())

    def _head(self, live: LiveSite, step: Any) -> None:
        path = live.site.path
        self.record.heads.append(path)
        made = one_module(step, path)
        if made is not None:
            self.new[path] = made
            return
        if self.weights_only:
            raise _no_weight(f"{path}: {self.program} has several modules there, a choice or a mean of which")
        parts: list[nn.Module] = []
        own = several(step, path, parts)
        self._around(path).head = Head(own, live.site, parts)

    def _attention(self, live: AttentionSite) -> None:
        path, leaves = live.site.path, self._leaves(live, exact=False)
        if self.weights_only:
            names = ", ".join(f"{name} ({leaf.method.name})" for name, leaf in leaves.items())
            raise _no_weight(f"{path}: {names} adds keys and values, which")
        check_leaves(path, leaves)
        node = plan_prefixes(self.program.expr, leaves, live.module)
        if node is not None:
            self.baked[path] = Baked(live, node)

    def _positions(self) -> None:
        shift = self.program.shift
        if shift is None:
            return
        if shift.inside is None:
            self._around("").shift = shift
            return
        path = next(path for path, module in self.modules.items() if module is shift.inside)
        self._around(path).place = shift

    def _unhooked(self) -> Iterator[Swap]:
        """Every hook of ours off, and every site that is no hook."""
        engine = self.engine
        hooked: dict[int, nn.Module] = {id(engine.model): engine.model}
        positions = decoder_positions(engine.structure)
        for module in (self.modules[engine.structure.prefix], positions):
            if module is not None:
                hooked[id(module)] = module
        for live in engine.live:
            if isinstance(live, HeadSite | AttentionSite):
                yield SiteSwap(live, self.baked.get(live.site.path) if isinstance(live, AttentionSite) else None)
                continue
            for module in (live.module, *(self.modules[tap] for tap in live.taps)):
                hooked[id(module)] = module
        owners = [*engine.live, engine.entrance, engine.capture]
        yield from (HookSwap(module, owners) for module in hooked.values())

    def _replaced(self) -> Iterator[Swap]:
        for path, module in self.new.items():
            old, (parent, _, name) = self.modules[path], path.rpartition(".")
            module.train(old.training)
            flag = any(parameter.requires_grad for parameter in old.parameters())
            for parameter in module.parameters():
                parameter.requires_grad_(flag)
            yield ChildSwap(self.modules[parent], name, module)

    def _labels(self) -> Iterator[Swap]:
        """A classifier's labels go with its head."""
        model = self.engine.model
        labels = self.engine.handle.labels_of(self.program.expr)
        if not self.record.heads or not labels or self.engine.structure.task[0] not in LABELLED:
            return
        yield AttributeSwap(model.config, "id2label", dict(enumerate(labels)))
        yield AttributeSwap(model.config, "label2id", {label: i for i, label in enumerate(labels)})
        if hasattr(model, "num_labels"):
            yield AttributeSwap(model, "num_labels", len(labels))


def _no_weight(what: str) -> UnsupportedError:
    return UnsupportedError(
        f"{what} no checkpoint of weights can hold", hint="adapted.fuse() puts it into the model as an ordinary module"
    )
