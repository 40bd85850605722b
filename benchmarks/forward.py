"""One LoRA and k stacked LoRAs beside peft with the same adapters active; what a handle costs that does nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.measure import Result, Row, Spread
from benchmarks.models import PACKAGES, bert, both, forward, hidden, lora, projections, tokens
from benchmarks.paired import added, contest, same, total
from hubcli.adapted import Adapted
from hubcli.composition import Stack

NARROW = 16  # the width of the model on which an idle hook is timed
# (title, rows × tokens, layers, adapters, bar, stretch): q and v of one layer as in the other rows; 24 sites are 57 MB, which
# at one token have to come from memory, the base's and the adapters' weights alike
STACKS: list[tuple[str, tuple[int, int], int, int, float | None, float | None]] = [
    ("4 stacked LoRAs, 8×128", (8, 128), 1, 4, 0.45, 0.37),
    ("16 stacked LoRAs, 8×128", (8, 128), 1, 16, 0.4, None),
    ("one LoRA, one token", (1, 1), 1, 1, 0.35, 0.25),
    ("16 stacked LoRAs, one token", (1, 1), 1, 16, 0.12, 0.08),
    ("one LoRA, one token, 24 sites of BERT-base", (1, 1), 12, 1, None, None),
    ("4 stacked LoRAs, one token, 24 sites of BERT-base", (1, 1), 12, 4, None, None),
    ("16 stacked LoRAs, one token, 24 sites of BERT-base", (1, 1), 12, 16, None, None),
]


def run(rounds: int, seed: int) -> Result:
    """Measure; every pair of outputs is compared first."""
    result = Result("forward", rounds, seed, packages=PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        for layers in (1, 12):
            result.rows += _stacks(layers, Path(folder) / str(layers), rounds, seed)
        result.rows += _one(Path(folder) / "bert", rounds, seed)
    result.rows += _idle(rounds, seed)
    result.facts = {"sites": 24, "narrow": NARROW}
    return result


def _stacks(layers: int, folder: Path, rounds: int, seed: int) -> list[Row]:
    """What k adapters add to the projections, ours and peft's, for each shape with this number of layers."""
    cases = [case for case in STACKS if case[2] == layers]
    most = max(count for _, _, _, count, _, _ in cases)
    base = projections(layers)
    handle, tuned = both(base, {f"n{i}": lora() for i in range(most)}, folder)
    names = list(tuned.peft_config)
    rows = []
    for title, shape, _, count, bar, stretch in cases:
        x = hidden(shape)
        calls = {"base": forward(base, x), "peft": forward(tuned, x), "hubcli": forward(handle.model, x)}
        handle.activate(Stack(*names[:count]) if count > 1 else names[0])
        tuned.base_model.set_adapter(names[:count])
        tuned.requires_grad_(False)
        same(title, calls["hubcli"](), calls["peft"]())
        times = contest(calls, *(rounds, seed) if shape != (1, 1) else (4 * rounds, seed, 200 // layers))
        rows.append(added(title, times, "hubcli", "peft", against="peft, added", bar=bar, stretch=stretch))
    return rows


def _one(folder: Path, rounds: int, seed: int) -> list[Row]:
    """The whole of a forward of a BERT layer, embeddings included, with one LoRA."""
    base, ids = bert(1), tokens(8, 128)
    handle, tuned = both(base, {"n": lora()}, folder)
    handle.activate("n")
    tuned.requires_grad_(False)
    calls = {"base": forward(base, ids), "peft": forward(tuned, ids), "hubcli": forward(handle.model, ids)}
    same("one LoRA", calls["hubcli"]().last_hidden_state, calls["peft"]().last_hidden_state)
    times = contest(calls, 4 * rounds, seed)
    what = "one LoRA, 8×128, the whole forward of a BERT layer"
    return [
        total(what, times, "hubcli", "peft", against="peft, total", close=True, bar=1.02),
        added(f"{what}: added", times, "hubcli", "peft", against="peft, added"),
    ]


def _idle(rounds: int, seed: int) -> list[Row]:
    """A handle with an adapter loaded and nothing active: the same bits, and what each site's hook costs.

    Narrow, so that the modules' own time, whose noise would hide a microsecond, is small.
    """
    base, x = projections(12, NARROW), hidden((1, 1), NARROW)
    with tempfile.TemporaryDirectory() as folder:
        handle, _ = both(base, {"n": lora()}, Path(folder))
    handle.activate(None)
    calls: dict[str, Callable[[], Any]] = {"base": forward(base, x), "idle": forward(handle.model, x)}
    differ = int((calls["base"]() != calls["idle"]()).sum())
    times = contest(calls, 4 * rounds, seed, 10)
    sites = len(_adapted(handle))
    each = [(one - bare) * 1000 / sites for one, bare in zip(times["idle"], times["base"], strict=True)]
    return [
        Row("idle handle: numbers of the output that differ from the bare model's", Spread.of([differ]), "", bar=0),
        Row("idle handle: cost of a site", Spread.of(each), "µs", bar=1.5),
    ]


def _adapted(handle: Adapted) -> list[nn.Linear]:
    return [m for m in handle.model.modules() if isinstance(m, nn.Linear)]
