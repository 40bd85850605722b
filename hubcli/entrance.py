"""The model's own entrance: counts running forwards, and widens the batch where a composition runs children side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hubcli.composition import BatchSplit, Expr, Split, contains
from hubcli.errors import BusyError, UnsupportedError
from hubcli.sites import Routing


class Entrance:
    """Two hooks on the model as a whole. `generating` is set while `generate` widens by itself."""

    def __init__(self, routing: Routing):
        self.routing = routing
        self.running: list[int] = []
        self.generating = 0
        self._undo: list[Callable[[], None]] = []

    def attach(self, model: nn.Module) -> None:
        """Put the hooks on, once."""
        if self._undo:
            return
        self._undo = [
            model.register_forward_pre_hook(self.enter, with_kwargs=True).remove,
            model.register_forward_hook(self.leave, always_call=True).remove,
        ]

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
        """Count the forward, and repeat its batch for Parallel."""
        if not torch.compiler.is_compiling():
            self.running.append(1)
        copies = self.routing.program(module.training).copies
        if copies == 1 or self.generating:
            return None
        if kwargs.get("past_key_values") is not None:
            raise UnsupportedError("generate under Parallel: call generate on the handle, which widens the batch first")
        return widened((args, kwargs), copies)

    def leave(self, module: nn.Module, args: Any, out: Any) -> None:
        """The forward ended, well or not."""
        del module, args, out
        if not torch.compiler.is_compiling():
            self.running.pop()

    def generate(self, model: nn.Module, *args: Any, **inputs: Any) -> Any:
        """`model.generate` under the program of this thread.

        Raises:
            UnsupportedError: Split; or beams or several sequences a row together with a composition that cuts the batch.
        """
        program = self.routing.program(False)
        exprs: tuple[Expr, ...] = (program.expr,) if program.rows is None else program.rows
        config = inputs.get("generation_config") or getattr(model, "generation_config", None)
        wide = max(int(inputs.get(k) or getattr(config, k, None) or 1) for k in ("num_beams", "num_return_sequences"))
        if any(contains(expr, Split) for expr in exprs):
            raise UnsupportedError(
                "Split can't generate: its sizes are positions, and generate adds some at every step"
            )
        cuts = program.rows is not None or program.copies > 1 or any(contains(expr, BatchSplit) for expr in exprs)
        if cuts and wide > 1:
            raise UnsupportedError(f"generate with {wide} beams or sequences a row can't be combined with {program}")
        if program.copies > 1:
            args, inputs = widened((args, inputs), program.copies)
        self.generating += 1
        self.running.append(1)
        try:
            return model.generate(*args, **inputs)  # type: ignore[operator]
        finally:
            self.running.pop()
            self.generating -= 1


def widened(given: tuple[tuple[Any, ...], dict[str, Any]], copies: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs with every tensor whose first axis is the batch repeated, child-major."""
    args, kwargs = given
    tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.dim() > 0]
    rows = max((tensor.shape[0] for tensor in tensors), default=0)

    def wide(value: Any) -> Any:
        fits = isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == rows
        return value.repeat(copies, *(1,) * (value.dim() - 1)) if fits else value

    return tuple(map(wide, args)), {name: wide(value) for name, value in kwargs.items()}
