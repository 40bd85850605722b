"""What a traced model takes: its inputs' names, which of their axes vary, and samples to trace and check it with."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hubcli.composition import BatchSplit, Split, blocks
from hubcli.errors import UnsupportedError
from hubcli.plan import Program
from hubcli.positions import places

if TYPE_CHECKING:
    from hubcli.adapted import Adapted

BATCH, SEQUENCE, DECODER = "batch", "sequence", "decoder_sequence"
TRACED_ROWS, TRACED_LENGTH, TRACED_DECODER = 3, 7, 5
LONGEST = 4096  # positions, where a model states no limit
# (rows, length) of the samples that a file is checked with, where nothing fixes them
CHECKED = ((3, 7), (1, 12), (5, 2))


@dataclass(frozen=True)
class Input:
    """One input: `axes` are names of axes that vary, and numbers."""

    name: str
    dtype: torch.dtype
    axes: tuple[str | int, ...]


@dataclass(frozen=True)
class Inputs:
    """All inputs of a model; `sizes` are axes that a composition fixes, `longest` the positions that it has.

    `whole` numbers of a sample are drawn below `words`.
    """

    inputs: tuple[Input, ...]
    words: int
    longest: int
    sizes: dict[str, int] = field(default_factory=dict)

    def axes(self, given: Input) -> tuple[str | int, ...]:
        """An input's axes, those that the composition fixes as numbers."""
        return tuple(self.sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in given.axes)

    def sample(self, rows: int, length: int, seed: int = 0) -> dict[str, Tensor]:
        """Random inputs; the last row is padded where there is a mask."""
        sizes = {BATCH: rows, SEQUENCE: length, DECODER: min(TRACED_DECODER, self.longest), **self.sizes}
        random = torch.Generator().manual_seed(seed)
        return {given.name: self._drawn(given, sizes, random) for given in self.inputs}

    def samples(self) -> Iterator[dict[str, Tensor]]:
        """What a file is checked with, each shape once."""
        shapes = {
            (self.sizes.get(BATCH, rows), self.sizes.get(SEQUENCE, min(length, self.longest)))
            for rows, length in CHECKED
        }
        for seed, (rows, length) in enumerate(sorted(shapes), 1):
            yield self.sample(rows, length, seed)

    def _drawn(self, given: Input, sizes: dict[str, int], random: torch.Generator) -> Tensor:
        shape = [sizes[axis] if isinstance(axis, str) else axis for axis in given.axes]
        if given.dtype.is_floating_point:
            return torch.randn(shape, generator=random).to(given.dtype)
        if given.name == "attention_mask":
            mask = torch.ones(shape, dtype=given.dtype)
            if shape[1] > 2:
                mask[-1, -(shape[1] // 3) :] = 0
            return mask
        high = 2 if given.name == "token_type_ids" else self.words
        return torch.randint(0, high, shape, generator=random, dtype=given.dtype)


def inputs_of(handle: Adapted, program: Program) -> Inputs:
    """The inputs of the handle's model under a program.

    Raises:
        UnsupportedError: a kind of model whose inputs are not known.
    """
    config: Any = getattr(handle.model, "config", None)
    main = getattr(handle.model, "main_input_name", "")
    sizes = fixed_sizes(program)
    if main == "pixel_values":
        side = config.image_size
        height, width = (side, side) if isinstance(side, int) else tuple(side)
        pixels = Input(main, dtype_of(handle), (BATCH, config.num_channels, height, width))
        return Inputs((pixels,), 2, 1, sizes)
    if main != "input_ids":
        raise UnsupportedError(
            f"export: a {handle.structure.base_class} reads {main or 'inputs that are not known'}; "
            "models of text and of images can be exported"
        )
    accepted = inspect.signature(handle.model.forward).parameters
    wanted = ["input_ids", "attention_mask"]
    if (getattr(config, "type_vocab_size", 0) or 0) > 1:
        wanted.append("token_type_ids")
    inputs = [Input(name, torch.long, (BATCH, SEQUENCE)) for name in wanted if name in accepted]
    if getattr(config, "is_encoder_decoder", False):
        inputs.append(Input("decoder_input_ids", torch.long, (BATCH, DECODER)))
    return Inputs(tuple(inputs), config.vocab_size, longest(handle, program), sizes)


def dtype_of(handle: Adapted) -> torch.dtype:
    """What the model computes in."""
    return next(p.dtype for p in handle.model.parameters() if p.is_floating_point())


def longest(handle: Adapted, program: Program) -> int:
    """How many positions a text may have: what the position embeddings hold, less what an adapter moves them by."""
    return places(handle.structure, program.shift) or LONGEST


def fixed_sizes(program: Program) -> dict[str, int]:
    """The axes that a composition fixes: the batch by its rows or a BatchSplit, the sequence by a Split."""
    sizes = {} if program.rows is None else {BATCH: len(program.rows)}
    for block in (block for expr in program.exprs for block in blocks(expr)):
        if isinstance(block, Split | BatchSplit):
            sizes.setdefault(SEQUENCE if isinstance(block, Split) else BATCH, sum(block.sizes))
    return sizes
