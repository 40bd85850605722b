"""Where the handle meets the model: hooks that stay until detach, and the step each one runs.

A hook reads the running program (`using`'s in this thread, else `activate`'s) and runs its own step of it; without a step it
returns None, which costs about a microsecond.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from hubcli.errors import AdapterError, UnsupportedSiteError
from hubcli.evaluate import Given, Tapped
from hubcli.method import Site

if TYPE_CHECKING:
    from hubcli.plan import Program

PORTS = ("input", "output")
HEAD = "module"  # the port of a module that adapters replace


class Step(Protocol):
    """What a site does under one program: the new value from the module's input and its value."""

    def __call__(self, module: nn.Module, x: Given, value: Tensor) -> Tensor:
        """The new value."""
        ...


class _Local(threading.local):
    """Programs of `using`, for one thread, by routing, and of `generate` while it runs. A ContextVar would break full-graph
    compilation.

    Each thread's own attribute is there from the start: a compiled forward that read a default of the class would not notice
    when a thread sets its own.
    """

    def __init__(self) -> None:
        self.chosen: Mapping[int, Program] = {}
        self.tapped: dict[tuple[int, int, str], Tensor] = {}
        self.shared: dict[int, int] = {}  # the rows of a forward that a trunk repeats, 0 where its entrance did
        self.generating: Mapping[int, Program] = {}


# One for the process: a compiled forward does not notice changes of a thread-local object that hangs on an instance.
LOCAL = _Local()
_keys = itertools.count()


class Routing:
    """Which program runs. `active` is `activate`'s; `chosen` is `using`'s, of this thread, and comes first.

    Gradient checkpointing runs blocks again during backward, when another program may be active. So the programs of the
    forwards since the last backward are noted; a block that runs inside a backward gets the one that is noted, and it is an
    error if there were several.
    """

    def __init__(self, empty: Program):
        self.active = empty
        self.key = next(_keys)
        self.noted: list[Program] = []
        self.backward_seen = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.key = next(_keys)  # a copy of a model is routed on its own

    @property
    def chosen(self) -> Program | None:
        """The program of `using` in this thread."""
        return LOCAL.chosen.get(self.key)

    def choose(self, program: Program | None) -> None:
        """Set or drop the program of `using` in this thread."""
        others = {key: other for key, other in LOCAL.chosen.items() if key != self.key}
        LOCAL.chosen = others if program is None else {**others, self.key: program}

    def program(self, training: bool) -> Program:
        """The program of the forward that runs now."""
        chosen = LOCAL.chosen
        program = chosen.get(self.key, self.active) if chosen else self.active
        if (training or torch.is_grad_enabled()) and not torch.compiler.is_compiling():
            return self._pinned(program)
        return program

    def _pinned(self, program: Program) -> Program:
        if torch._C._current_graph_task_id() == -1:
            if self.backward_seen:
                self.noted, self.backward_seen = [], False
            if program not in self.noted:
                self.noted.append(program)
            return program
        self.backward_seen = True
        if len(self.noted) > 1:
            names = " and ".join(str(noted) for noted in self.noted[:2])
            raise AdapterError(
                f"gradient checkpointing recomputes a forward, and there were forwards under {names} since the last backward",
                hint="call backward before the next forward under another composition",
            )
        return self.noted[0] if self.noted else program


class LiveSite:
    """One hook in the model. `i` is its place in every program's list of steps."""

    def __init__(self, site: Site, module: nn.Module, i: int, routing: Routing):
        self.site, self.module, self.i, self.routing = site, module, i, routing
        self.undo: Callable[[], None] = _nothing
        self.taps: dict[str, Callable[[], None]] = {}

    def attach(self) -> None:
        """Put the hook on; `undo` takes it off again."""
        if self.site.port not in PORTS:
            raise UnsupportedSiteError(f"{self.site}: expected one of the ports {', '.join(PORTS)}, attention")
        if self.site.port == "input":
            self.undo = self.module.register_forward_pre_hook(self.on_input, with_kwargs=True).remove
        else:
            self.undo = self.module.register_forward_hook(self.on_output, with_kwargs=True).remove

    def listen(self, tap: str, module: nn.Module) -> None:
        """Keep what goes into a second module, once a tap, until this site runs."""
        if tap not in self.taps:
            self.taps[tap] = module.register_forward_pre_hook(Tap(self, tap), with_kwargs=True).remove

    def close(self) -> None:
        """Take every hook of this site off."""
        for undo in (self.undo, *self.taps.values()):
            undo()
        self.taps = {}

    def inputs(self, x: Tensor) -> Given:
        """What the adapters here read: the module's own input, and the taps'."""
        if not self.taps:
            return x
        found = Tapped({None: x})
        for tap in self.taps:
            key = (self.routing.key, self.i, tap)
            if key not in LOCAL.tapped:
                raise UnsupportedSiteError(f"{self.site.path}: {tap}, whose input is read here, has not run before it")
            found[tap] = LOCAL.tapped.pop(key)
        return found

    def step(self, training: bool) -> Any:
        """This site's step under the running program; a program made before this site existed has none."""
        steps = self.routing.program(training).steps
        return steps[self.i] if self.i < len(steps) else None

    def on_output(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        """The forward hook: None leaves the output alone."""
        steps = self.routing.program(module.training).steps  # not by `step`: a call less, every time this module runs
        if self.i >= len(steps) or (step := steps[self.i]) is None:
            return None
        x = args[0] if args else next(iter(kwargs.values()))
        if self.taps:
            x = self.inputs(x)
        if isinstance(out, tuple):
            return (step(module, x, out[0]), *out[1:])
        return step(module, x, out)

    def on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The forward pre-hook: None leaves the input alone."""
        step = self.step(module.training)
        if step is None:
            return None
        value = _first(args, kwargs)
        new = step(module, self.inputs(value), value)
        if args:
            return (new, *args[1:]), kwargs
        return args, {name: new if kept is value else kept for name, kept in kwargs.items()}


class Tap:
    """The pre-hook of a second module: keeps its input for the site, for this thread alone."""

    def __init__(self, live: LiveSite, path: str):
        self.live, self.path = live, path

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep the input if the site has something to do."""
        if self.live.step(module.training) is not None:
            LOCAL.tapped[self.live.routing.key, self.live.i, self.path] = _first(args, kwargs)


class HeadSite(LiveSite):
    """A module that adapters replace. Its forward is replaced, so that the base's own module does not run in vain."""

    def attach(self) -> None:
        """Take over the module's forward."""
        self.before = self.module.__dict__.get("forward")
        self.module.forward = self.forward
        self.undo = self._restore

    def _restore(self) -> None:
        if self.before is None:
            del self.module.__dict__["forward"]
        else:
            self.module.forward = self.before

    def own(self, *args: Any, **kwargs: Any) -> Any:
        """The module's own forward."""
        if self.before is not None:
            return self.before(*args, **kwargs)
        return type(self.module).forward(self.module, *args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The replacement's output under the running program, else the module's own."""
        step = self.step(self.module.training)
        return self.own(*args, **kwargs) if step is None else step(self, args, kwargs)


def check_reachable(model: nn.Module, path: str) -> None:
    """Refuse a module whose forward is bypassed: a hook there would never run, and nothing would say so.

    Raises:
        UnsupportedSiteError: the module is a part of torch's own attention, which reads its weights directly.
    """
    parent = model.get_submodule(path.rpartition(".")[0])
    if isinstance(parent, nn.MultiheadAttention):
        raise UnsupportedSiteError(
            f"{path}: torch.nn.MultiheadAttention reads this module's weights without calling it, so nothing can be added there"
        )


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else next(iter(kwargs.values()))


def _nothing() -> None:
    return None
