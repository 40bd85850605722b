"""Folding LoRAs into the weights of a random BERT-base, beside peft's merge."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from peft import PeftModel

from benchmarks.measure import Result, rounds_of
from benchmarks.models import PACKAGES, bert, forward, lora, peft_model, quiet, saved, tokens
from benchmarks.paired import same, total
from hubcli.adapted import Adapted, adapt
from hubcli.composition import Expr, Stack

COUNT = 8
NAMES = [f"n{number}" for number in range(COUNT)]


def run(rounds: int, seed: int) -> Result:
    """Measure; the fused models' outputs are compared first, and the model has to come back to the bit."""
    result = Result("fusing", rounds, seed, packages=PACKAGES)
    base = bert(12)
    with tempfile.TemporaryDirectory() as folder, quiet():
        tuned = peft_model(copy.deepcopy(base), {name: lora() for name in NAMES})
        handle = adapt(base)
        for name, where in saved(tuned, Path(folder)).items():
            handle.load(where, name)
    _check(handle, tuned)
    eight = Stack(*NAMES)
    contestants = {
        "one": lambda: _fused(handle, "n0"),
        "eight": lambda: _fused(handle, eight),
        "8 times": lambda: sum(_fused(handle, name) for name in NAMES),
        "merge": lambda: _merged(tuned, ["n0"], safe=False),
        "safe": lambda: _merged(tuned, ["n0"], safe=True),
        "merge 8": lambda: _merged(tuned, NAMES, safe=False),
        "safe 8": lambda: _merged(tuned, NAMES, safe=True),
    }
    times = rounds_of(contestants, rounds, seed)
    for what, own, peer, against, bar, stretch in (
        ("fuse q and v", "one", "merge", "`merge_adapter`", 0.7, 0.5),
        ("fuse q and v, checked for NaN", "one", "safe", "`merge_adapter(safe_merge=True)`", 0.4, 0.25),
        ("fuse 8 LoRAs at once", "eight", "8 times", "own, 8 times one", 0.6, 0.4),
        ("fuse 8 LoRAs at once", "eight", "merge 8", "`merge_adapter` of 8", None, None),
        ("fuse 8 LoRAs at once", "eight", "safe 8", "`merge_adapter(safe_merge=True)` of 8", None, None),
    ):
        result.rows.append(total(what, times, own, peer, against=against, bar=bar, stretch=stretch))
    return result


def _check(handle: Adapted, tuned: PeftModel) -> None:
    ids = tokens(2, 16)
    before = {key: tensor.clone() for key, tensor in handle.model.state_dict().items()}
    for expr, names in (("n0", ["n0"]), (Stack(*NAMES), NAMES)):
        merged = handle.fuse(expr)
        tuned.base_model.merge_adapter(names)
        same("fused", forward(merged, ids)().last_hidden_state, forward(tuned, ids)().last_hidden_state)
        handle.unfuse()
        tuned.base_model.unmerge_adapter()
    after = handle.model.state_dict()
    if not all(tensor.equal(after[key]) for key, tensor in before.items()):
        raise RuntimeError("unfuse did not bring the model back to the bit")


def _spent(call: Callable[[], object], undo: Callable[[], object]) -> float:
    """CPU milliseconds of a call that is undone afterwards, untimed."""
    start = time.process_time_ns()
    call()
    spent = (time.process_time_ns() - start) / 1e6
    undo()
    return spent


def _fused(handle: Adapted, expr: Expr) -> float:
    """Fuse with no plan kept from before."""
    handle.engine.programs.clear()
    return _spent(lambda: handle.fuse(expr), handle.unfuse)


def _merged(tuned: PeftModel, names: list[str], *, safe: bool) -> float:
    merge = tuned.base_model.merge_adapter
    return _spent(lambda: merge(names, safe_merge=safe), tuned.base_model.unmerge_adapter)
