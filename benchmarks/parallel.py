"""Parallel of four beside four forwards and beside the `adapters` library; Average of four bottlenecks beside that library."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks import adapters_peer
from benchmarks.adapters_peer import Peer
from benchmarks.measure import Result, Row, rounds_of
from benchmarks.models import PACKAGES, bert, forward, loaded, lora, peft_model, quiet, saved, tokens
from benchmarks.paired import Timed, added_by, contest, same, total
from hubcli.adapted import Adapted
from hubcli.composition import Average, Parallel

COUNT = 4
NAMES = [f"n{number}" for number in range(COUNT)]
# (title, rows × tokens, layers, those that are adapted, bar, stretch)
FORWARDS: list[tuple[str, tuple[int, int], int, list[int], float | None, float | None]] = [
    ("8×64, every layer adapted", (8, 64), 2, [0, 1], 1.03, 1.0),
    ("1×16, every layer adapted", (1, 16), 4, [0, 1, 2, 3], 0.8, 0.6),
    ("8×64, the upper half adapted", (8, 64), 2, [1], 0.7, 0.6),
    ("1×16, the upper half adapted", (1, 16), 4, [2, 3], None, None),
]
# (block, rows × tokens, layers, bar, stretch)
BESIDE: list[tuple[str, tuple[int, int], int, float | None, float | None]] = [
    ("average", (8, 128), 2, 0.6, 0.4),
    ("average", (1, 16), 2, None, None),
    ("parallel", (8, 64), 4, 0.95, None),
    ("parallel", (1, 16), 4, None, None),
]


def run(rounds: int, seed: int) -> Result:
    """Measure; outputs are compared first."""
    result = Result("parallel", rounds, seed, packages=PACKAGES)
    with tempfile.TemporaryDirectory() as folder, quiet():
        for number, case in enumerate(FORWARDS):
            result.rows.append(_forwards(*case, Path(folder) / f"lora{number}", rounds, seed))
        missing = adapters_peer.installed()
        if missing is None:
            with adapters_peer.peer() as worker:
                for layers in (2, 4):
                    result.rows += _library(layers, worker, Path(folder) / f"adapters{layers}", rounds, seed)
        result.facts = {"library": f"not run: {missing}" if missing else "adapters 1.3.0 with transformers 4.57.6"}
    return result


def _forwards(
    title: str,
    shape: tuple[int, int],
    layers: int,
    adapted: list[int],
    bar: float | None,
    stretch: float | None,
    folder: Path,
    rounds: int,
    seed: int,
) -> Row:
    """Four LoRAs side by side in one forward, against a forward with each."""
    base, ids = bert(layers), tokens(*shape)
    tuned = peft_model(base, {name: lora(layers_to_transform=adapted) for name in NAMES})
    handle = loaded(base, saved(tuned, folder))
    calls = {"parallel": _parallel(handle, ids), "four": _four(handle, ids)}
    same(title, calls["parallel"](), calls["four"]())
    close = bar is not None and bar > 0.9
    times = contest(calls, 2 * rounds if close else rounds, seed)
    what, against = f"Parallel of 4 LoRAs, {title}", "four forwards"
    return total(what, times, "parallel", "four", against=against, close=close, bar=bar, stretch=stretch)


def _parallel(handle: Adapted, ids: Tensor) -> Callable[[], Tensor]:
    call = forward(handle.model, ids)

    def parallel() -> Tensor:
        handle.activate(Parallel(*NAMES))
        hidden: Tensor = call().last_hidden_state
        return hidden

    return parallel


def _four(handle: Adapted, ids: Tensor) -> Callable[[], Tensor]:
    call = forward(handle.model, ids)

    def four() -> Tensor:
        outputs = []
        for name in NAMES:
            handle.activate(name)
            outputs.append(call().last_hidden_state)
        return torch.cat(outputs)

    return four


def _library(layers: int, worker: Peer, folder: Path, rounds: int, seed: int) -> list[Row]:
    """Bottlenecks that the library made, composed by it and by hubcli, each added to its own transformers' bare model."""
    base = bert(layers)
    base.save_pretrained(folder / "base")  # type: ignore[operator]
    worker.ask("setup", folder=str(folder), count=COUNT, config="seq_bn")
    handle = loaded(base, {name: folder / name for name in NAMES})
    rows: list[Row] = []
    for block, shape, _, bar, stretch in (case for case in BESIDE if case[2] == layers):
        expr = Average(*NAMES) if block == "average" else Parallel(*NAMES)
        handle.activate(expr)
        times = _beside(worker, handle.model, base, block, shape, folder, rounds, seed)
        title = f"{block.capitalize()} of 4 bottlenecks, {shape[0]}×{shape[1]}"
        if block == "average":
            what, against = f"{title}: added", "adapters, added"
            rows.append(
                added_by(
                    what, times, "hubcli", "base", "adapters", "their base", against=against, bar=bar, stretch=stretch
                )
            )
        else:
            close = bar is not None
            rows.append(total(title, times, "hubcli", "adapters", against="adapters, total", close=close, bar=bar))
    return rows


def _beside(
    worker: Peer,
    model: nn.Module,
    base: nn.Module,
    block: str,
    shape: tuple[int, int],
    folder: Path,
    rounds: int,
    seed: int,
) -> dict[str, list[float]]:
    """Times of the two libraries, and for what is added of their bare models, interleaved across the two processes."""
    ids = tokens(*shape)
    key = f"{block}-{folder.name}-{shape[0]}x{shape[1]}"
    for kind in ("base", block):
        out = folder / f"{key}-{kind}.safetensors"
        worker.ask("case", name=f"{key}-{kind}", block=kind, names=NAMES, ids=ids.tolist(), out=str(out))
    ours = forward(model, ids)
    same(key, ours().last_hidden_state, load_file(folder / f"{key}-{block}.safetensors")["hidden"])
    contestants: dict[str, Callable[[], float]] = {"hubcli": Timed(ours), "adapters": worker.timed(f"{key}-{block}")}
    if block == "average":
        contestants |= {"base": Timed(forward(base, ids)), "their base": worker.timed(f"{key}-base")}
    return rounds_of(contestants, rounds if shape[0] > 1 else 4 * rounds, seed)
