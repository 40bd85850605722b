"""fuse: a composition into the model itself, so that no hook of ours remains; unfuse: back to the bit.

What is a change of weights is folded into them; what replaces a module becomes the model's own; the rest becomes ordinary
modules.
Everything new is made, and found finite, before the first piece is put in place; what was there is kept, not copied.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from hubcli.composition import Expr
from hubcli.engine import Engine, forget_compiled
from hubcli.errors import AdapterError, FusedError, UnsupportedError
from hubcli.fuse_plan import Fused, FusePlan
from hubcli.swaps import AttributeSwap


def check_unfused(engine: Engine, verb: str) -> None:
    """Refuse what can't be done while a composition is fused into the model.

    Raises:
        FusedError: names the composition.
    """
    if engine.fused is not None:
        raise FusedError(f"{verb}: {engine.fused.program} is fused into the model", hint="unfuse() first")


def fuse(engine: Engine, expr: Expr, *, weights_only: bool = False) -> Fused:
    """Fuse an expression, or what is active where it is None.

    Args:
        weights_only: refuse what is no weight, as a checkpoint can't hold it.

    Raises:
        FusedError: something is fused already. BusyError: a forward is running.
        AdapterError: nothing is given, and nothing is active.
        UnsupportedError: rows and Parallel, which are no part of a model; with `weights_only` what is no weight, by name.
        WeightsError: NaN or infinity. HubcliError: as `activate`.
    """
    check_unfused(engine, "fuse")
    engine.entrance.check_idle("fuse")
    if engine.using:
        raise FusedError(f"fuse: a using block is open: {engine.using[-1]}", hint="leave the using block first")
    program = engine.routing.active if expr is None else engine.program(expr, None)
    if program.rows is None and program.expr is None:
        raise AdapterError("fuse: no composition is given, and none is active", hint="fuse('a'), or activate it first")
    if program.rows is not None or program.copies > 1:
        raise UnsupportedError(
            f"fuse: {program} decides by the rows of each batch, which no weight and no module of a model can",
            hint="fuse one of its parts",
        )
    made = FusePlan(engine, program, weights_only).made()
    _put(engine, made)
    engine.trunk.detach()
    engine.fused, engine.routing.active = made, program
    forget_compiled()
    return made


def unfuse(engine: Engine) -> None:
    """Put back what was there: the same parameters, hooks and modules.

    Raises:
        FusedError: nothing is fused.
    """
    made = engine.fused
    if made is None:
        raise FusedError("unfuse: nothing is fused into the model", hint="fuse('a') fuses an adapter")
    _back(made)
    engine.fused, engine.routing.active = None, made.before
    if any(program.trunk is not None for program in (engine.routing.active, *engine.programs.values())):
        engine.trunk.attach(engine.structure)
    if made.moved:
        engine.forget()
    forget_compiled()


def _put(engine: Engine, made: Fused) -> None:
    """All of it, or on an error nothing."""
    planned, made.swaps = made.swaps, []
    model, tied = engine.model, _tied(engine.model, engine.structure.modules.values())
    try:
        for swap in planned:
            swap.put()
            made.swaps.append(swap)
        if tied and not _tied(model, model.modules()):
            untied = AttributeSwap(model.config, "tie_word_embeddings", False)
            untied.put()
            made.swaps.append(untied)
    except BaseException:
        _back(made)
        raise


def _tied(model: nn.Module, modules: Iterable[nn.Module]) -> bool:
    """Whether the model ties weights, and some of its modules share a parameter."""
    if not getattr(getattr(model, "config", None), "tie_word_embeddings", False):
        return False
    found = [id(p) for module in modules if module._parameters for p in module._parameters.values() if p is not None]
    return len(set(found)) < len(found)


def _back(made: Fused) -> None:
    for swap in reversed(made.swaps):
        swap.back()
    made.swaps.clear()
