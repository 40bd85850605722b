"""A batch whose rows use different LoRAs, in equal or unequal groups and of mixed ranks, beside peft's `adapter_names`."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Result, Row
from benchmarks.models import PACKAGES, both, forward, hidden, lora, projections
from benchmarks.paired import added, contest, same

ROWS, RANKS = 64, (4, 8, 16)


@dataclass(frozen=True)
class Batch:
    """64 rows of `length` tokens; `sizes` are the numbers of rows of each adapter, which stand in random order."""

    title: str
    length: int
    sizes: tuple[int, ...]
    ranks: tuple[int, ...] = (8,)
    bar: float | None = None
    stretch: float | None = None

    @property
    def names(self) -> list[str]:
        """Its adapters, by rank and number."""
        return [f"n{number}r{self.ranks[number % len(self.ranks)]}" for number in range(len(self.sizes))]

    def rows(self, seed: int) -> list[str]:
        """An adapter for each row."""
        rows = [name for name, size in zip(self.names, self.sizes, strict=True) for _ in range(size)]
        random.Random(seed).shuffle(rows)
        return rows


UNEQUAL = (16, 10, 8, 6, 5, 4, 3, 2, 2, 2, 1, 1, 1, 1, 1, 1)
BATCHES = (
    Batch("64×64, 64 LoRAs", 64, (1,) * 64, bar=0.4, stretch=0.32),
    Batch("64×64, 16 LoRAs, equal groups", 64, (4,) * 16),
    Batch("64×64, 16 LoRAs, unequal groups", 64, UNEQUAL),
    Batch("64×1, 64 LoRAs", 1, (1,) * 64, bar=0.1, stretch=0.06),
    Batch("64×1, 16 LoRAs, equal groups", 1, (4,) * 16, bar=0.1, stretch=0.06),
    Batch("64×1, 16 LoRAs, unequal groups", 1, UNEQUAL, bar=0.2, stretch=0.13),
    Batch("64×1, 64 LoRAs of ranks 4, 8, 16", 1, (1,) * 64, RANKS, bar=0.2, stretch=0.13),
    Batch("64×1, 16 LoRAs of ranks 4, 8, 16, unequal groups", 1, UNEQUAL, RANKS, bar=0.2, stretch=0.13),
)


def run(rounds: int, seed: int) -> Result:
    """Measure; every pair of outputs is compared first."""
    result = Result("batches", rounds, seed, packages=PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        for length, layers in ((64, 1), (1, 12)):
            batches = [batch for batch in BATCHES if batch.length == length]
            result.rows += _batches(batches, layers, Path(folder) / str(length), rounds, seed)
    return result


def _batches(batches: Sequence[Batch], layers: int, folder: Path, rounds: int, seed: int) -> list[Row]:
    """What the adapters of each batch add to the projections, ours and peft's; and the first batch of a new roster."""
    base, x = projections(layers), hidden((ROWS, batches[0].length))
    configs = {name: lora(int(name.partition("r")[2])) for batch in batches for name in batch.names}
    handle, tuned = both(base, configs, folder)
    tuned.requires_grad_(False)
    rows = []
    for batch in batches:
        names = batch.rows(seed)

        def first(names: list[str] = names) -> None:
            handle.activate(None)
            handle.engine.programs.clear()  # and with the programs the banks that only they held
            handle.activate(rows=names)
            forward(handle.model, x)()

        calls = {
            "base": forward(base, x),
            "peft": forward(tuned, x, adapter_names=names),
            "hubcli": forward(handle.model, x),
        }
        handle.activate(rows=names)
        same(batch.title, calls["hubcli"](), calls["peft"]())
        times = contest(calls | {"first": first}, rounds, seed)
        against = "peft, added"
        rows.append(added(batch.title, times, "hubcli", "peft", against=against, bar=batch.bar, stretch=batch.stretch))
        rows.append(
            added(f"{batch.title}: the first batch of a new roster", times, "first", "peft", against="peft, added")
        )
    return rows
