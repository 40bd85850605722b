"""Rows with different bottlenecks, prefixes or BitFits, which no peer can do: against one adapter for all rows."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import Result, Row, Spread
from benchmarks.models import PACKAGES, bert, forward, quiet, tokens, twin
from benchmarks.paired import added, contest, same
from hubcli.adapted import Adapted, adapt

METHODS: dict[str, dict[str, Any]] = {
    "bottleneck": {"mh_adapter": False, "output_adapter": True, "reduction_factor": 16},
    "prefix": {"prefix_length": 30, "flat": True},
    "bitfit": {},
}
# layers, then rows × tokens, number of adapters; at one token several layers, so that no cache holds all weights
CASES = {1: [((16, 16), 16), ((16, 64), 16)], 4: [((64, 1), 16), ((64, 1), 64)]}


def run(rounds: int, seed: int) -> Result:
    """Measure; rows are compared with each row's own adapter first."""
    result = Result("methods", rounds, seed, packages=PACKAGES)
    with quiet():
        for method in METHODS:
            for layers, cases in CASES.items():
                base = bert(layers)
                handle = _handle(method, base, max(count for _, count in cases))
                for shape, count in cases:
                    result.rows += _rows(method, handle, base, shape, count, rounds, seed)
    result.facts = {"prefix": METHODS["prefix"]["prefix_length"], "bottleneck": 48}
    return result


def _handle(method: str, base: nn.Module, count: int) -> Adapted:
    """Adapters none of whose numbers is at its start, frozen."""
    handle = adapt(twin(base))
    for number in range(count):
        handle.add(method, f"n{number}", METHODS[method], head=None)
        torch.manual_seed(number)
        with torch.no_grad():
            for parameter in handle.trainable(f"n{number}"):
                parameter.add_(torch.randn_like(parameter) * 0.02)
    handle.trainable([])
    return handle


def _rows(
    method: str, handle: Adapted, base: nn.Module, shape: tuple[int, int], count: int, rounds: int, seed: int
) -> list[Row]:
    """What `count` adapters over the rows add, against what one adds; bottlenecks of one token against reading their weights."""
    ids = tokens(*shape)
    names = [f"n{number % count}" for number in range(shape[0])]
    random.Random(seed).shuffle(names)
    call = forward(handle.model, ids)

    def under(activate: Callable[[], None]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            activate()
            hidden: Tensor = call().last_hidden_state
            return hidden

        return run

    calls = {
        "base": forward(base, ids),
        "one": under(lambda: handle.activate("n0")),
        "rows": under(lambda: handle.activate(rows=names)),
    }
    _check(handle, names, ids, calls["rows"]())
    one_token = shape[1] == 1
    weights = _weights(handle, names)
    if one_token and method == "bottleneck":
        calls["read"] = lambda: (calls["base"](), weights.sum())  # after a forward, as far from the caches as in one
    times = contest(calls, 2 * rounds, seed, 15)
    title = f"{method}, {shape[0]}×{shape[1]}, {count} adapters"
    if "read" in calls:
        ours = [rows - bare for rows, bare in zip(times["rows"], times["base"], strict=True)]
        read = [both - bare for both, bare in zip(times["read"], times["base"], strict=True)]
        ratios = [one / other for one, other in zip(ours, read, strict=True)]
        against = f"reading their {weights.nbytes / 1e6:.0f} MB"
        return [
            Row(title, Spread.of(ratios), bar=1.3, against=against, own=Spread.of(ours), peer=Spread.of(read)),
            added(title, times, "rows", "one", against="one for all rows, added"),
        ]
    bar, stretch = (2.5, 1.5) if one_token else (1.5, 1.2)
    return [added(title, times, "rows", "one", against="one for all rows, added", bar=bar, stretch=stretch)]


def _check(handle: Adapted, names: list[str], ids: Tensor, hidden: Tensor) -> None:
    for row in (0, len(names) // 2, len(names) - 1):
        handle.activate(names[row])
        alone = forward(handle.model, ids[row : row + 1])().last_hidden_state
        same(f"row {row} alone", hidden[row : row + 1], alone)


def _weights(handle: Adapted, names: list[str]) -> Tensor:
    """All numbers of the adapters of these rows, in one piece."""
    chosen = [handle.engine.adapters[name] for name in dict.fromkeys(names)]
    tensors = [tensor for adapter in chosen for site in adapter.sites.values() for tensor in site.values()]
    return torch.cat([tensor.detach().flatten() for tensor in tensors])
