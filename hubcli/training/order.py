"""In which order rows are trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice, repeat

import torch
from torch.utils.data import Sampler

POOL = 50  # batches whose rows are sorted by length together


class Order(Sampler[int]):
    """Every row once an epoch, rows of like length in one batch. It follows from seed and epoch alone.

    The last batch of an epoch is filled up with its first rows: each step has as many rows as any other, and processes and
    parts that share a batch all have some, so that their number changes nothing.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int, *, by_length: bool):
        self.lengths, self.batch, self.seed, self.by_length = lengths, batch, seed, by_length
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Which epoch comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch) * self.batch

    @property
    def steps(self) -> int:
        """Of one epoch."""
        return len(self) // self.batch

    def __iter__(self) -> Iterator[int]:
        order = self._once()
        return islice(chain.from_iterable(repeat(order)), len(self))

    def _once(self) -> list[int]:
        chance = torch.Generator().manual_seed((self.seed << 16) + self.epoch)
        order = torch.randperm(len(self.lengths), generator=chance).tolist()
        if not self.by_length:
            return order
        size, batches = self.batch * POOL, []
        for start in range(0, len(order), size):
            pool = sorted(order[start : start + size], key=lambda i: -self.lengths[i])
            batches += [pool[i : i + self.batch] for i in range(0, len(pool), self.batch)]
        last = [] if not batches or len(batches[-1]) == self.batch else [batches.pop()]
        shuffled = [batches[i] for i in torch.randperm(len(batches), generator=chance).tolist()]
        return [row for batch in shuffled + last for row in batch]
