"""The layers below the first adapted one, which a `Parallel` runs once for all of its children.

Only where it is known that nothing but the list of layers carries rows from its start to its end: encoders of known layout, and
a forward without gradients that is asked for its last answer alone. Elsewhere the batch is repeated at the model's entrance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hubcli.families import Structure
from hubcli.sites import LOCAL, Routing

LAYOUTS = ("bert", "mpnet", "distilbert", "vit")
# what a forward may be given: nothing that is compared with its answers, and nothing that asks for what lies below them
INPUTS = {
    *("input_ids", "inputs_embeds", "attention_mask", "token_type_ids", "position_ids"),
    *("pixel_values", "interpolate_pos_encoding", "return_dict"),
}
POSITIONAL = 2  # input_ids, attention_mask
SWITCHES = ("is_decoder", "is_encoder_decoder", "output_hidden_states", "output_attentions")


def first_layer(structure: Structure, paths: Iterable[str]) -> int | None:
    """The layer from which on something is adapted, given the adapted modules; None: the rows have to be there from the start."""
    layers = structure.transformer_layers()
    config = getattr(structure.model, "config", None)
    lists = {layer.path.rpartition(".")[0] for layer in layers}
    known = len(lists) == 1 and all(layer.layout.name in LAYOUTS for layer in layers)
    if not known or any(getattr(config, name, False) for name in SWITCHES):
        return None
    at = {layer.path: layer.index for layer in layers}
    heads, (parent,) = structure.head_modules(), lists
    found = [len(layers) - 1]
    for path in paths:
        if path.startswith(f"{parent}."):
            number = path.removeprefix(f"{parent}.").partition(".")[0]
            found.append(at[f"{parent}.{number}"])
        elif not any(path == head or path.startswith(f"{head}.") for head in heads):
            return None
    return min(found)


def rows_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """The rows of a forward that may widen in the middle; 0: it may not."""
    given = [name for name, value in kwargs.items() if value is not None]
    if torch.is_grad_enabled() or len(args) > POSITIONAL or not INPUTS.issuperset(given):
        return 0
    main = (
        args[0]
        if args
        else next((kwargs[name] for name in ("input_ids", "inputs_embeds", "pixel_values") if name in given), None)
    )
    return main.shape[0] if isinstance(main, Tensor) else 0


class Trunk:
    """Hooks on the layers: from a program's first adapted layer on, rows are repeated, child-major."""

    def __init__(self, routing: Routing):
        self.routing = routing
        self._undo: list[Callable[[], None]] = []

    def attach(self, structure: Structure) -> bool:
        """Put the hooks on; whether that was still to be done."""
        if self._undo:
            return False
        for layer in structure.transformer_layers():
            hook, module = Layer(self.routing, layer.index), structure.modules[layer.path]
            # before the hooks of sites and taps at the layer itself
            self._undo.append(module.register_forward_pre_hook(hook, prepend=True, with_kwargs=True).remove)
        return True

    def detach(self) -> None:
        """Take them off."""
        for undo in self._undo:
            undo()
        self._undo = []


class Layer:
    """One layer's hook."""

    def __init__(self, routing: Routing, index: int):
        self.routing, self.index = routing, index

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Repeat what still has the batch's rows; None where this forward or this layer has nothing to repeat."""
        program = self.routing.program(module.training)
        rows = LOCAL.shared.get(self.routing.key, 0) if program.copies > 1 else 0
        if not rows or program.trunk is None or self.index < program.trunk:
            return None
        return repeated(args, rows, program.copies), repeated(kwargs, rows, program.copies)


def repeated(given: Any, rows: int, copies: int) -> Any:
    """Every tensor inside whose first axis is the rows, that many times one below the other."""
    if isinstance(given, Tensor):
        fits = given.dim() > 0 and given.shape[0] == rows
        return given.repeat(copies, *(1,) * (given.dim() - 1)) if fits else given
    if isinstance(given, tuple | list):
        return type(given)([repeated(one, rows, copies) for one in given])
    if isinstance(given, dict):
        return {key: repeated(one, rows, copies) for key, one in given.items()}
    return given
