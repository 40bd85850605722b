"""The layers below the first adapted one, which a `Parallel` runs once for all of its children.

Only where it is known that nothing but the list of layers carries rows from its start to its end: encoders of known layout, and
a forward without gradients that is asked for its last answer alone. Elsewhere the batch is repeated at the model's entrance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hubcli.errors import UnsupportedError
from hubcli.families import Structure
from hubcli.layouts import Layer
from hubcli.method import Site
from hubcli.sites import LOCAL, Routing

LAYOUTS = ("bert", "mpnet", "distilbert", "vit")
# what a forward may be given: nothing that is compared with its answers, and nothing that asks for what lies below them
INPUTS = {
    *("input_ids", "inputs_embeds", "attention_mask", "token_type_ids", "position_ids"),
    *("pixel_values", "interpolate_pos_encoding", "return_dict"),
}
MAIN = {"input_ids": 2, "inputs_embeds": 3, "pixel_values": 4}  # and their axes
POSITIONAL = 2  # input_ids, attention_mask
SWITCHES = ("is_decoder", "is_encoder_decoder")
ASKING = ("output_hidden_states", "output_attentions")  # set at any time, so read in every forward
# transformers' classes that read their inputs once, each row by itself
KINDS = ("ForSequenceClassification", "ForTokenClassification", "ForMaskedLM", "ForImageClassification", "Model")


def first_place(structure: Structure, sites: Iterable[Site]) -> int | None:
    """Where the first of these sites needs its rows; None: they have to be there from the start.

    Places count the layers' starts and ends: 2 i is the start of layer i, 2 i + 1 its end.
    """
    layers = structure.transformer_layers()
    config = getattr(structure.model, "config", None)
    lists = {layer.path.rpartition(".")[0] for layer in layers}
    cls = type(structure.model)
    known = cls.__module__.startswith("transformers.") and cls.__name__.endswith(KINDS)
    known = known and len(lists) == 1 and all(layer.layout.name in LAYOUTS for layer in layers)
    if not known or any(getattr(config, name, False) for name in SWITCHES):
        return None
    (parent,) = lists
    starts = {layer.path.rpartition(".")[2]: 2 * layer.index for layer in layers}
    ends = {end(layer) for layer in layers}
    heads = structure.head_modules()
    found = [2 * len(layers) - (2 if None in ends else 1)]
    for site in sites:
        if site.path.startswith(f"{parent}."):
            number = site.path.removeprefix(f"{parent}.").partition(".")[0]
            found.append(starts[number] + (site in ends))
        elif not any(site.path == head or site.path.startswith(f"{head}.") for head in heads):
            return None
    return min(found)


def end(layer: Layer) -> Site | None:
    """What goes into a post-norm layer's last norm, which is all that the layer gives; None: no such place."""
    norm = layer.layout.ffn_norm
    return None if norm is None else Site(layer.at(norm), "input")


def rows_of(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """The rows of a forward that may widen in the middle; 0: it may not."""
    given = [name for name, value in kwargs.items() if value is not None]
    if torch.is_grad_enabled() or len(args) > POSITIONAL or not INPUTS.issuperset(given):
        return 0
    if any(getattr(getattr(model, "config", None), name, False) for name in ASKING):
        return 0
    main, axes = (
        (args[0], 0) if args else next(((kwargs[name], n) for name, n in MAIN.items() if name in given), (None, 0))
    )
    if not isinstance(main, Tensor):
        return 0
    fits = main.dim() == (axes or (4 if main.is_floating_point() else 2))
    return main.shape[0] if fits else 0


class Trunk:
    """Hooks at the layers' starts and ends: from a program's first place on, rows are repeated, child-major."""

    def __init__(self, routing: Routing):
        self.routing = routing
        self._undo: list[Callable[[], None]] = []

    def attach(self, structure: Structure) -> bool:
        """Put the hooks on, before those of sites and taps at the same modules; whether that was still to be done."""
        if self._undo:
            return False
        for layer in structure.transformer_layers():
            first, last = Place(self.routing, 2 * layer.index), Place(self.routing, 2 * layer.index + 1)
            module, site = structure.modules[layer.path], end(layer)
            handles = [module.register_forward_pre_hook(first.before, prepend=True, with_kwargs=True)]
            if site is not None:
                norm = structure.modules[site.path]
                handles.append(norm.register_forward_pre_hook(last.before, prepend=True, with_kwargs=True))
            self._undo += [handle.remove for handle in handles]
        return True

    def detach(self) -> None:
        """Take them off."""
        for undo in self._undo:
            undo()
        self._undo = []


class Place:
    """The hook at one place."""

    def __init__(self, routing: Routing, number: int):
        self.routing, self.number = routing, number

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Repeat what still has the batch's rows of what goes into a module; None where nothing is to be repeated."""
        program = self.routing.program(module.training)
        rows = LOCAL.shared.get(self.routing.key, 0) if program.copies > 1 else 0
        if not rows or program.trunk is None or self.number < program.trunk:
            return None
        value = args[0] if args else next(iter(kwargs.values()))
        if value.shape[0] not in (rows, rows * program.copies):
            raise UnsupportedError(
                f"Parallel: expected a batch of {rows} rows, or {rows * program.copies}, "
                f"found {value.shape[0]} in layer {self.number // 2}"
            )
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
