"""The model's own entrance: counts running forwards, and widens the batch where a composition runs children side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hubcli.composition import BatchSplit, Block, Expr, Split, contains
from hubcli.errors import BusyError, UnsupportedError
from hubcli.plan import Program
from hubcli.sites import LOCAL, Routing
from hubcli.trunk import rows_of

INPUTS = (
    "input_ids",
    "inputs_embeds",
    "pixel_values",
    "input_features",
    "decoder_input_ids",
)  # the batch is their axis 0
Make = Callable[[Expr, Sequence[Expr] | None], Program]


class Entrance:
    """Hooks on the model as a whole; while this thread generates they leave the batch as `generate` made it."""

    def __init__(self, routing: Routing):
        self.routing = routing
        self.running: list[int] = []
        self._undo: list[Callable[[], None]] = []

    def attach(self, model: nn.Module, positions: nn.Module | None) -> None:
        """Put the hooks on, once; `positions` embeds a decoder's positions where the decoder makes them itself."""
        if self._undo:
            return
        self._undo = [
            model.register_forward_pre_hook(self.enter, with_kwargs=True).remove,
            model.register_forward_hook(self.leave, always_call=True).remove,
        ]
        if positions is not None:
            self._undo.append(positions.register_forward_hook(self.place, with_kwargs=True).remove)

    def detach(self) -> None:
        """Take them off."""
        for undo in self._undo:
            undo()
        self._undo = []

    def check_idle(self, verb: str) -> None:
        """Refuse what must not happen in the middle of a forward.

        Raises:
            BusyError: a forward is running, in this thread or another.
        """
        if self.running:
            raise BusyError(
                f"{verb}: a forward of this model is running", hint="use using() for one thread's own choice"
            )

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Count the forward, repeat its batch for Parallel, and move positions where an adapter does."""
        if not torch.compiler.is_compiling():
            self.running.append(1)
        program = self.routing.program(module.training)
        beams = LOCAL.generating.get(self.routing.key)
        if beams is not None:
            LOCAL.shared[self.routing.key] = 0
            if beams is not program:
                self.routing.choose(beams)
            return None if beams.shift is None else beams.shift(args, kwargs)
        if program.copies > 1:
            rows = 0 if program.trunk is None else rows_of(module, args, kwargs)
            LOCAL.shared[self.routing.key] = rows
            if rows:
                return None
            if kwargs.get("past_key_values") is not None:
                raise UnsupportedError(
                    "generate under Parallel: call generate on the handle, which widens the batch first"
                )
            args, kwargs = widened((args, kwargs), program.copies)
        elif program.shift is None:
            return None
        return (args, kwargs) if program.shift is None else program.shift(args, kwargs)

    def place(self, module: nn.Module, args: Any, kwargs: Any, out: Any) -> Any:
        """Move a decoder's positions where an adapter does."""
        shift = self.routing.program(module.training).shift
        return None if shift is None else shift.within(module, args, kwargs, out)

    def leave(self, module: nn.Module, args: Any, out: Any) -> None:
        """The forward ended, well or not."""
        del module, args, out
        LOCAL.shared.pop(self.routing.key, None)
        if not torch.compiler.is_compiling():
            self.running.pop()

    def generate(self, model: nn.Module, make: Make, *args: Any, **inputs: Any) -> Any:
        """`model.generate` under the program of this thread; `make` gives the program of an expression.

        With several beams or sequences a row, generate repeats each row that often before it decodes, and so does the
        program. An encoder runs before that, by itself: the model's own entrance is where the longer program begins.

        Raises:
            UnsupportedError: Split.
        """
        program = self.routing.program(False)
        if any(contains(expr, Split) for expr in program.exprs):
            raise UnsupportedError(
                "Split can't generate: its sizes are positions, and generate adds some at every step"
            )
        beams = _repeated(program, _beams(model, args, inputs), make)
        if program.copies > 1:
            args, inputs = widened((args, inputs), program.copies)
        before, generating = self.routing.chosen, LOCAL.generating
        LOCAL.generating = {**generating, self.routing.key: beams}
        if beams is not program and not getattr(model.config, "is_encoder_decoder", False):
            self.routing.choose(beams)
        self.running.append(1)
        try:
            return model.generate(*args, **inputs)  # type: ignore[operator]
        finally:
            self.running.pop()
            LOCAL.generating = generating
            self.routing.choose(before)


def _beams(model: nn.Module, args: Sequence[Any], inputs: Mapping[str, Any]) -> int:
    """How often `generate` repeats each row: by its own argument, else the config it is given, else the model's."""
    given = inputs.get("generation_config") or next((arg for arg in args if hasattr(arg, "num_beams")), None)
    configs = (given, getattr(model, "generation_config", None))

    def stated(key: str) -> int:
        found = (inputs.get(key), *(getattr(config, key, None) for config in configs))
        return next((int(number) for number in found if number), 1)

    return max(stated("num_beams"), stated("num_return_sequences"))


def _repeated(program: Program, times: int, make: Make) -> Program:
    """The program for a batch in which every row stands `times` times in a row."""
    if times == 1:
        return program
    if program.rows is not None:
        return make(None, [expr for expr in program.rows for _ in range(times)])
    return make(_longer(program.expr, times), None) if contains(program.expr, BatchSplit) else program


def _longer(expr: Expr, times: int) -> Expr:
    """The same tree with every cut of the batch that many times as long."""
    if not isinstance(expr, Block):
        return expr
    options = {name: getattr(expr, name) for name in expr.options}
    if isinstance(expr, BatchSplit):
        options["sizes"] = [size * times for size in expr.sizes]
    return type(expr)(*(_longer(child, times) for child in expr.children), **options)


def widened(given: tuple[tuple[Any, ...], dict[str, Any]], copies: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs with every tensor whose first axis is the batch repeated, child-major."""
    args, kwargs = given
    tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.dim() > 0]
    named = [kwargs[name] for name in INPUTS if isinstance(kwargs.get(name), Tensor)]
    main = named[:1] or tensors  # a generator would break the graph of a compiled model
    rows = max([0, *[tensor.shape[0] for tensor in main]])

    def wide(value: Any) -> Any:
        fits = isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == rows
        return value.repeat(copies, *(1,) * (value.dim() - 1)) if fits else value

    return tuple(map(wide, args)), {name: wide(value) for name, value in kwargs.items()}
