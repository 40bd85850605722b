"""How much memory the weights of a base's linear modules take, as they were loaded: what a quantised base saves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from hubcli.families import Structure
from hubcli.training.setup import Setup


def memory(setup: Setup) -> dict[str, int]:
    """Bytes of the weights of the linear modules that the adapter changes; of one that changes none, and of a full
    fine-tuning, of all linear modules of the base but its heads.

    Returns:
        `modules`; `bytes`, with the scales of quantised weights; `full_precision`: what as many numbers take in the dtype
        that the recipe names for the base.
    """
    structure = Structure(setup.model) if setup.handle is None else setup.handle.structure
    found = _weights(_adapted(setup, structure)) or _weights(_all(structure))
    itemsize: int = getattr(torch, setup.recipe.base.dtype).itemsize
    return {
        "modules": len(found),
        "bytes": sum(map(_size, found)),
        "full_precision": sum(map(_numbers, found)) * itemsize,
    }


def _adapted(setup: Setup, structure: Structure) -> Iterator[nn.Module]:
    if setup.handle is not None and setup.name is not None:
        adapter = setup.handle.engine.adapters[setup.name]
        yield from (structure.modules[site.path] for site in adapter.sites)


def _all(structure: Structure) -> Iterator[nn.Module]:
    words, heads = structure.output_embeddings(), structure.head_modules()
    for path, module in structure.modules.items():
        if module is not words and path.partition(".")[0] not in heads:
            yield module


def _weights(modules: Iterable[nn.Module]) -> list[Tensor]:
    """Of the linear modules among them, each once."""
    kinds = (nn.Linear, Conv1D)
    found: list[Any] = [module.weight for module in dict.fromkeys(modules) if isinstance(module, kinds)]
    return found


def _numbers(weight: Tensor) -> int:
    """A 4-bit weight holds two numbers a byte."""
    state = getattr(weight, "quant_state", None)
    return weight.numel() if state is None else prod(state.shape)


def _size(weight: Tensor) -> int:
    """Bytes of a weight, with what is needed to read it where it is quantised: scales, their own scales, and codes."""
    state, total = getattr(weight, "quant_state", None), weight.numel() * weight.element_size()
    while state is not None:
        tensors = (getattr(state, name, None) for name in ("absmax", "code", "offset"))
        total += sum(tensor.numel() * tensor.element_size() for tensor in tensors if isinstance(tensor, Tensor))
        state = getattr(state, "state2", None)
    return total
