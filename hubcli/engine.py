"""The engine under the handle: hooks in the model, and a program of steps for each expression."""

from __future__ import annotations

import contextlib
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from hubcli import answers, fusion_rules
from hubcli import heads as head_rules
from hubcli.adapter import Adapter
from hubcli.attention import AttentionSite
from hubcli.banks import Shelf, size
from hubcli.composition import Expr
from hubcli.entrance import Entrance
from hubcli.errors import UnsupportedError
from hubcli.families import Structure
from hubcli.method import ATTENTION, Leaf, Site
from hubcli.plan import Program, plan, plan_rows
from hubcli.positions import decoder_positions, shift_of
from hubcli.prefixes import plan_prefix_rows, plan_prefixes
from hubcli.quantised import check_trainable, keep_readable, undo
from hubcli.residents import CHILD, Residents
from hubcli.route import Route
from hubcli.rules import check_cuts, check_expression, normalised
from hubcli.sites import HEAD, HeadSite, LiveSite, Routing, check_reachable
from hubcli.steps import made_for
from hubcli.trunk import Trunk, first_place

if TYPE_CHECKING:
    from hubcli.adapted import Adapted
    from hubcli.fuse_plan import Fused

KEPT_PROGRAMS = 64
KEPT_BYTES = 1 << 30  # of what those programs copied: merged leaves, banks
KINDS: dict[str, type[LiveSite]] = {HEAD: HeadSite, ATTENTION: AttentionSite}


class Engine:
    """Hooks, residents and programs of one model. `load` brings in a name that an expression uses and that is not loaded."""

    def __init__(self, handle: Adapted, model: nn.Module, load: Callable[[str], None]):
        self.handle, self.model, self.load = handle, model, load
        self.structure = Structure(model)
        self.adapters: dict[str, Adapter] = {}
        self.sites: dict[Site, LiveSite] = {}
        self.live: list[LiveSite] = []
        self.programs: OrderedDict[Any, Program] = OrderedDict()
        self.shelf = Shelf()
        self.using: list[Program] = []
        self.fused: Fused | None = None
        self.flags: list[tuple[nn.Parameter, bool]] | None = None
        self.routing = Routing(Program(None))
        self.entrance = Entrance(self.routing)
        self.trunk = Trunk(self.routing)
        self.capture = answers.Capture(self.structure, self.routing)
        self.settle()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "using": []}

    def settle(self) -> None:
        """Add the child module that holds what trains."""
        self.switched = keep_readable(self.structure.modules.values())
        self.residents = Residents(self.handle)
        self.model.add_module(CHILD, self.residents)

    def take_in(self, adapter: Adapter) -> None:
        """Register hooks for sites that have none, then the adapter itself; on an error nothing stays."""
        if CHILD not in self.model._modules:
            self.settle()
        before = len(self.live)
        hooked = False
        try:
            for site in adapter.sites:
                hooked |= self._open(site)
            for path in adapter.heads:
                hooked |= self._open(Site(path, HEAD))
            if adapter.added is not None:
                hooked |= self.capture.attach()
        except BaseException:
            self._close(before)
            raise
        if hooked:
            self.entrance.attach(self.model, decoder_positions(self.structure))
            forget_compiled()
        self.adapters[adapter.name] = adapter
        self.house(adapter)

    def house(self, adapter: Adapter) -> None:
        """Make the adapter's parameters part of the model, if it has any."""
        if adapter.room._parameters and adapter.room not in self.residents.children():
            key = adapter.name.replace(".", "_")
            while hasattr(self.residents, key):
                key += "_"
            self.residents.add_module(key, adapter.room)

    def let_go(self, name: str) -> None:
        """Drop one adapter and every program that uses it; its hooks stay, they are the sites'."""
        adapter = self.adapters.pop(name)
        for key in [key for key, room in self.residents.named_children() if room is adapter.room]:
            del self.residents._modules[key]
        for key in [key for key, program in self.programs.items() if name in program.names]:
            del self.programs[key]

    def detach(self) -> None:
        """Take everything off the model."""
        self.routing.active = Program(None)
        self.entrance.detach()
        self.trunk.detach()
        self.capture.detach()
        hooked = bool(self.live)
        self._close(0)
        self.adapters.clear()
        self.programs.clear()
        self.model._modules.pop(CHILD, None)
        undo(self.switched)
        for parameter, flag in self.flags or ():
            parameter.requires_grad_(flag)
        self.flags = None
        if hooked:
            forget_compiled()

    def _open(self, site: Site) -> bool:
        """Hook a site that has none, and its tap; whether a hook was added."""
        live = self.sites.get(site)
        hooked = live is None
        if live is None:
            module = self.structure.modules[site.path]
            check_reachable(self.model, site.path)
            live = KINDS.get(site.port, LiveSite)(site, module, len(self.live), self.routing)
            live.attach()
            self.live.append(live)
            self.sites[site] = live
        if site.tap is not None and site.tap not in live.taps:
            check_reachable(self.model, site.tap)
            live.listen(site.tap, self.structure.modules[site.tap])
            hooked = True
        return hooked

    def _close(self, keep: int) -> None:
        for live in self.live[keep:]:
            live.close()
            del self.sites[live.site]
        del self.live[keep:]

    def program(self, expr: Expr, rows: Sequence[Expr] | None) -> Program:
        """The program of an expression, from the cache or made now; names in it that are not loaded are loaded as refs."""
        key = (*normalised(expr, rows), self.handle.head)
        program = self.programs.get(key)
        if program is not None:
            with contextlib.suppress(KeyError):  # another thread may have dropped it meanwhile
                self.programs.move_to_end(key)
            return program
        key = (*fusion_rules.named_all(*key[:2], self.adapters), key[2])
        program = self.programs.get(key)
        if program is not None:
            return program
        program = Program(*key)
        check_expression(program, self.structure)
        for name in program.names:
            if name not in self.adapters:
                self.load(name)
        fusion_rules.check_names(program.exprs, self.adapters)
        if torch.compiler.is_exporting():
            raise UnsupportedError(
                f"{program} was never active: what is made while a model is traced is no use afterwards",
                hint="activate it, or use it once, before the export",
            )
        with torch.inference_mode(False):  # what is made outlives this call, and may be trained beside
            self.compile(program)
        self.programs[key] = program
        self._trim()
        return program

    def _trim(self) -> None:
        """Drop the programs that were longest out of use; the newest stays, however large."""
        while len(self.programs) > 1 and (len(self.programs) > KEPT_PROGRAMS or self._copied() > KEPT_BYTES):
            with contextlib.suppress(KeyError):
                self.programs.popitem(last=False)

    def _copied(self) -> int:
        """Bytes of what the kept programs' leaves were merged or banked into; what several share counts once."""
        found = {id(leaf): leaf for program in self.programs.values() for leaf in program.made}
        return sum(map(size, found.values()))

    def compile(self, program: Program) -> None:
        """Plan every site. No walk over the model's modules: sites alone."""
        used = {name: self.adapters[name] for name in program.names}
        rows = program.rows
        route = None if rows is None else Route(rows, self._device(), self.shelf.order(rows))
        labels = {name: adapter.labels or () for name, adapter in used.items() if adapter.heads}
        steps: list[Any] = []
        for live in self.live:
            path = live.site.path
            if isinstance(live, HeadSite):
                twins = {name: adapter.heads[path] for name, adapter in used.items() if path in adapter.heads}
                steps.append(_head_step(program, route, twins, labels))
            else:
                found = {name: leaf for name, a in used.items() if (leaf := a.leaf(live.site, live.module)) is not None}
                fusion_rules.check_site(program.exprs, live.site, found)
                steps.append(self._site_step(program, route, found, live))
        head_rules.check_heads(program, {name: adapter.heads for name, adapter in used.items()})
        acting = [(live, step) for live, step in zip(self.live, steps, strict=True) if step is not None]
        head_rules.check_nested(acting)
        check_cuts(program, (live.site.path for live, _ in acting), self.structure)
        answers.check(program, self.adapters)
        shifts = {name: adapter.method.shift(adapter.settings) for name, adapter in used.items()}
        program.shift = shift_of(program.expr, program.rows, shifts, self.structure)
        program.trunk = None
        if program.copies > 1 and program.shift is None:
            program.trunk = first_place(self.structure, (live.site for live, _ in acting))
            if program.trunk is not None and self.trunk.attach(self.structure):
                forget_compiled()
        program.steps = steps if acting else []
        program.made = tuple(leaf for step in steps for leaf in made_for(step))

    def _site_step(self, program: Program, route: Route | None, found: Mapping[str, Leaf], live: LiveSite) -> Any:
        if isinstance(live, AttentionSite):
            if route is None:
                return plan_prefixes(program.expr, found, live.module)
            return plan_prefix_rows(route, found, live.module)
        return plan(program.expr, found, self.shelf) if route is None else plan_rows(route, found, self.shelf)

    def forget(self) -> None:
        """Tensors moved or began to train: leaves and plans are made anew, those in use at once."""
        for adapter in self.adapters.values():
            adapter.forget()
        self.programs.clear()
        if self.fused is not None:
            return  # what was made of the folded weights would be wrong; unfuse asks again
        for program in {id(p): p for p in (self.routing.active, *self.using)}.values():
            self.compile(program)

    def trainable(self, chosen: Sequence[Adapter]) -> list[nn.Parameter]:
        """Let these adapters train and freeze everything else; remembers the model's own flags for detach."""
        if chosen:
            check_trainable(self.structure)
        if self.flags is None:
            inside = {id(p) for p in self.residents.parameters()}
            self.flags = [(p, p.requires_grad) for p in self.model.parameters() if id(p) not in inside]
        self.model.requires_grad_(False)
        for adapter in self.adapters.values():
            if adapter in chosen or adapter.trainable:
                adapter.train(adapter in chosen, self.structure.modules)
            self.house(adapter)
        self.forget()
        return [parameter for adapter in chosen for parameter in adapter.parameters()]

    def _device(self) -> torch.device:
        parameter = next(self.model.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device


def _head_step(
    program: Program, route: Route | None, twins: Mapping[str, nn.Module], labels: Mapping[str, tuple[str, ...]]
) -> Any:
    if route is None:
        return head_rules.plan_head(program.expr, twins, labels, program.head)
    return head_rules.plan_head_rows(route, twins, labels, program.head)


def forget_compiled() -> None:
    """torch ignores hooks that are added after a compiled call, in silence; a reset makes it look again."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
