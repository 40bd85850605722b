"""What goes with what: every method under every composition on every family, each checked against the slow reference."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, BatchSplit, Expr, Fuse, Parallel, Split, Stack
from hubcli.errors import HubcliError
from hubcli.plugins import plugins
from hubcli.testing import TINY, apart, inputs_of, output, reference, tiny

LIMIT = 1e-10  # float64
NO_BIAS = ("llama", "qwen3", "gemma3", "mistral", "t5")
ROWS, POSITIONS = 3, {"vit": 5}


class Kind(NamedTuple):
    """A method with a config, by family where it differs."""

    method: str
    config: Callable[[str], dict[str, Any]]
    says: str


KINDS: dict[str, Kind] = {
    "lora": Kind("lora", lambda _: {"r": 2, "lora_alpha": 3, "target_modules": "all-linear"}, "At every linear module"),
    "lora, DoRA": Kind("lora", lambda _: {"r": 2, "target_modules": "all-linear", "use_dora": True}, "At every linear module"),
    "bottleneck, Houlsby": Kind(
        "bottleneck", lambda _: {"variant": "houlsby", "reduction_factor": 4}, "After attention and the feed-forward network"
    ),
    "bottleneck, Pfeiffer": Kind("bottleneck", lambda _: {"reduction_factor": 4}, "After the feed-forward network"),
    "bottleneck, parallel": Kind(
        "bottleneck", lambda _: {"variant": "parallel", "reduction_factor": 4}, "Beside the feed-forward network"
    ),
    "bitfit": Kind(
        "bitfit",
        lambda family: {"add_biases": True} if family in NO_BIAS else {},
        f"At every bias; with `add_biases` on {', '.join(NO_BIAS)}, which have none",
    ),
    "prefix": Kind("prefix", lambda _: {"prefix_length": 3, "flat": True}, "At the keys and values of every self-attention"),
}  # fmt: skip


class Composed(NamedTuple):
    """An expression over adapters a and b, or one a row; `n` are the positions of the family's inputs."""

    expr: Callable[[int], Expr]
    rows: Sequence[Expr] | None = None


COMPOSITIONS: dict[str, Composed] = {
    "alone": Composed(lambda n: "a"),
    "Stack": Composed(lambda n: Stack("a", "b")),
    "Average": Composed(lambda n: Average("a", "b", weights=[0.7, 0.4])),
    "Split": Composed(lambda n: Split("a", "b", sizes=[2, n - 2])),
    "BatchSplit": Composed(lambda n: BatchSplit("a", None, "b", sizes=[1, 1, 1])),
    "Parallel": Composed(lambda n: Parallel("a", None, "b")),
    "Fuse": Composed(lambda n: Fuse("a", "b", by="mix")),
    "rows": Composed(lambda n: None, ("b", None, Stack("a", "b"))),
}


class Cell(NamedTuple):
    """What came of one check: nothing where it holds, else how it was refused."""

    refused: str = ""
    words: str = ""


def kinds() -> list[str]:
    """The kinds whose method is installed."""
    known = {plugin.name for plugin in plugins().of_kind("method")}
    return [name for name, kind in KINDS.items() if kind.method in known]


def with_random(handle: Adapted, name: str, method: str, config: dict[str, Any], seed: int, std: float = 0.2) -> None:
    """Add an adapter, fresh numbers plus noise, frozen."""
    torch.manual_seed(seed)
    handle.add(method, name, copy.deepcopy(config), head=None)
    with torch.no_grad():
        for parameter in handle.trainable(name):
            parameter.add_(torch.randn_like(parameter) * std)
    handle.trainable([])


def cells(kind: str, family: str) -> Iterator[tuple[str, Cell]]:
    """(composition, cell) of one kind on one family.

    Raises:
        AssertionError: hubcli does something, but not what the reference does; or does nothing.
    """
    handle, inputs, chosen = adapt(tiny(family)), inputs_of(family, ROWS), KINDS[kind]
    bare = output(handle.model, inputs)
    for name, composed in COMPOSITIONS.items():
        expr = composed.expr(POSITIONS.get(family, 7))
        try:
            for seed, adapter in enumerate("ab"):
                if adapter not in handle.adapters:
                    with_random(handle, adapter, chosen.method, chosen.config(family), seed + 1)
            if isinstance(expr, Fuse):
                with_random(handle, "mix", "fusion", {"of": ["a", "b"]}, 3)
            with handle.using(expr, composed.rows):
                found = output(handle.model, inputs)
        except HubcliError as error:
            yield name, Cell(error.id, error.message)
            continue
        expected = reference(handle, expr, inputs, rows=composed.rows)
        away = apart(found, expected)
        assert away <= LIMIT, f"{kind}, {name}, {family}: {away} from the reference"
        assert apart(found, bare if len(found) == ROWS else torch.cat([bare] * 3)) > 1e-6, (
            f"{kind}, {name}, {family}: no effect"
        )
        yield name, Cell()


def run(families: Sequence[str] = tuple(TINY)) -> dict[tuple[str, str, str], Cell]:
    """Every cell by (kind, family, composition)."""
    return {(kind, family, name): cell for kind in kinds() for family in families for name, cell in cells(kind, family)}
