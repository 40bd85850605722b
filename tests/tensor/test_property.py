"""Any tree of any methods: what the handle makes of it equals the slow reference, in float64."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from torch import Tensor

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, BatchSplit, Expr, Fuse, Parallel, Split, Stack
from hubcli.testing import TINY, apart, inputs_of, output, reference, tiny

from .matrix import LIMIT, NO_BIAS, POSITIONS, with_random

pytestmark = pytest.mark.filterwarnings("ignore")
ROWS, DEPTH = 4, 3
FAST = ("bert", "gpt2", "llama", "mpnet", "vit", "t5")
NO_SPLIT = ("t5", "bart", "whisper", "clip")  # several sequences

# name: (method, config); configs of one method differ in what a merge depends on
ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {"r": 2, "lora_alpha": 3, "target_modules": "all-linear"}),
    "wide-lora": ("lora", {"r": 3, "target_modules": "all-linear", "lora_bias": True}),
    "dora": ("lora", {"r": 2, "use_dora": True, "target_modules": "all-linear"}),
    "houlsby": ("bottleneck", {"variant": "houlsby", "reduction_factor": 4}),
    "pfeiffer": ("bottleneck", {"reduction_factor": 8}),
    "other-pfeiffer": ("bottleneck", {"reduction_factor": 4, "scaling": "channel"}),
    "parallel": ("bottleneck", {"variant": "parallel", "reduction_factor": 4}),
    "bitfit": ("bitfit", {}),
}


class Grower:
    """Random trees over some names that fit `ROWS` rows and the positions of a family; sizes may be zero."""

    def __init__(self, family: str, names: Sequence[str], seed: int):
        self.chance, self.names = random.Random(f"{family} {seed}"), names
        self.positions = 0 if family in NO_SPLIT else POSITIONS.get(family, 7)

    def sizes(self, total: int, parts: int) -> list[int]:
        cuts = sorted(self.chance.randint(0, total) for _ in range(parts - 1))
        return [b - a for a, b in zip([0, *cuts], [*cuts, total], strict=True)]

    def tree(self, rows: int, positions: int, depth: int = DEPTH) -> Expr:
        """`rows` 0: nothing that cuts the batch; `positions` 0: nothing that cuts the sequence."""
        if depth == 0 or self.chance.random() < 0.2:
            return self.chance.choice([*self.names, None])
        kinds = [Stack, Stack, Average, Fuse] + [BatchSplit] * (rows > 0) + [Split] * (positions > 0)
        block, count = self.chance.choice(kinds), self.chance.randint(1, 3)
        if block is BatchSplit:
            cut = self.sizes(rows, count)
            return BatchSplit(*(self.tree(n, positions, depth - 1) for n in cut), sizes=cut)
        if block is Split:
            cut = self.sizes(positions, count)
            return Split(*(self.tree(rows, n, depth - 1) for n in cut), sizes=cut)
        children = [self.tree(rows, positions, depth - 1) for _ in range(count)]
        if block is Stack:
            return Stack(*children)
        if block is Fuse:
            return Fuse(*children, by="mix")
        weights = [round(self.chance.uniform(-1, 1), 2) for _ in children]
        return Average(*children, weights=self.chance.choice([None, weights]))

    def any(self) -> tuple[Expr, list[Expr] | None]:
        """(expression, None) or (None, rows)."""
        kind = self.chance.random()
        if kind < 0.2:
            pool = [self.tree(0, self.positions, 2) for _ in range(3)]
            return None, [self.chance.choice(pool) for _ in range(ROWS)]
        if kind < 0.35:
            wide = Parallel(*(self.tree(ROWS, self.positions, 2) for _ in range(self.chance.randint(1, 3))))
            beside = self.tree(0, self.positions, 2)
            return self.chance.choice(
                [wide, Stack(beside, wide), Stack(wide, beside), Stack(Stack(beside, wide))]
            ), None
        return self.tree(ROWS, self.positions), None


UNCUT = [
    "pos_key_proj",
    "pos_query_proj",
    "encoder.LayerNorm",
    "patch_embeddings.projection",
]  # no rows, or no positions


def of_family(method: str, family: str) -> dict[str, Any]:
    if method == "bitfit" and family in NO_BIAS:
        return {"add_biases": True}
    return {"exclude_modules": UNCUT} if method in ("lora", "bitfit") else {}


def laden(family: str) -> Adapted:
    """A handle with every adapter, and a fusion of them all."""
    handle = adapt(tiny(family))
    for seed, (name, (method, config)) in enumerate(ADAPTERS.items()):
        with_random(handle, name, method, {**config, **of_family(method, family)}, seed, std=0.1)
    with_random(handle, "mix", "fusion", {"of": list(ADAPTERS)}, 99, std=0.1)
    return handle


def hold(family: str, trees: int) -> None:
    handle, inputs = laden(family), inputs_of(family, ROWS)
    bare, moved = output(handle.model, inputs), 0
    for seed in range(trees):
        grower = Grower(family, tuple(ADAPTERS), seed)
        expr, rows = grower.any()
        trained = grower.chance.choice([[], [], [grower.chance.choice(grower.names)]])
        handle.trainable(trained)
        found = under(handle, expr, rows, inputs)
        expected = reference(handle, expr, inputs, rows=rows)
        away = apart(found, expected)
        assert found.shape == expected.shape and away <= LIMIT, (
            f"{family} {seed}: {away}, {trained} train: {rows or expr}"
        )
        moved += found.shape != bare.shape or apart(found, bare) > 1e-3
    assert moved > trees / 2


def under(handle: Adapted, expr: Expr, rows: list[Expr] | None, inputs: dict[str, Tensor]) -> Tensor:
    with handle.using(expr, rows):
        return output(handle.model, inputs)


@pytest.mark.parametrize("family", FAST)
def test_random_trees_are_the_reference(family: str) -> None:
    hold(family, 16)


@pytest.mark.slow
@pytest.mark.parametrize("family", TINY)
def test_many_random_trees_are_the_reference(family: str) -> None:
    hold(family, 120)
