"""A step of LoRA training beside peft: its time, the memory it needs beyond the model, and what is kept for backward."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import ROOT, Result, Row, Spread
from benchmarks.models import PACKAGES, RANK, TARGETS, bert, lora, peft_model, quiet, tokens, twin
from benchmarks.paired import contest, interval, same, total
from hubcli.adapted import adapt

# rows × tokens, rounds for each round asked for
SHAPES = [((8, 64), 3), ((1, 8), 6)]
LAYERS, BAR, STRETCH = 2, 1.02, 0.98
MEMORY_SHAPE = (8, 64)


class Step:
    """Forward, backward and AdamW on the adapter's numbers."""

    def __init__(self, model: nn.Module, parameters: list[nn.Parameter], ids: Tensor):
        self.model, self.ids = model.train(), ids
        self.optimiser = torch.optim.AdamW(parameters, lr=1e-4)

    def __call__(self) -> Tensor:
        """The loss."""
        self.optimiser.zero_grad()
        loss: Tensor = self.model(self.ids).last_hidden_state.square().mean()
        torch.autograd.backward(loss)
        self.optimiser.step()
        return loss.detach()


def steps(ids: Tensor, which: str = "") -> dict[str, Callable[[], Tensor]]:
    """hubcli's and peft's steps from the same start, or one of them; no dropout, which draws other numbers in each."""
    base = bert(LAYERS, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    tuned = peft_model(base, {"default": lora()})
    numbers = {key: p.detach().clone() for key, p in tuned.named_parameters() if p.requires_grad}
    made: dict[str, Callable[[], Tensor]] = {}
    if which in ("", "peft"):
        made["peft"] = Step(tuned, [p for p in tuned.parameters() if p.requires_grad], ids)
    if which in ("", "hubcli"):
        handle = adapt(twin(base))
        handle.add("lora", "n", {"r": RANK, "lora_alpha": 2 * RANK, "target_modules": TARGETS}, head=None)
        parameters = handle.trainable("n")
        own = handle.engine.adapters["n"].sites
        with torch.no_grad():
            for site, tensors in own.items():
                for name, tensor in tensors.items():
                    tensor.copy_(numbers[f"base_model.model.{site.path}.{name}.default.weight"])
        handle.activate("n")
        made["hubcli"] = Step(handle.model, parameters, ids)
    return made


def run(rounds: int, seed: int) -> Result:
    """Measure; the losses of five steps are compared first."""
    result = Result("training", rounds, seed, packages=PACKAGES)
    with quiet():
        for shape, more in SHAPES:
            calls = steps(tokens(*shape))
            for _ in range(5):
                same(f"loss at {shape}", calls["hubcli"](), calls["peft"](), 1e-5)
            times = contest(calls, more * rounds, seed)
            what = f"a step of training, {shape[0]}×{shape[1]}: time"
            result.rows.append(
                total(what, times, "hubcli", "peft", against="peft", close=True, bar=BAR, stretch=STRETCH)
            )
        result.rows += _memory()
    result.facts = {"layers": LAYERS}
    return result


def _memory() -> list[Row]:
    """Peak memory of a step in a process of its own, and the bytes that autograd keeps."""
    seen = {name: [_in_a_process(name) for _ in range(6)] for name in ("hubcli", "peft")}
    title = f"a step of training, {MEMORY_SHAPE[0]}×{MEMORY_SHAPE[1]}"
    rows = []
    for key, what in (("peak", "peak memory beyond the model"), ("kept", "kept for backward")):
        ours, theirs = ([one[key] / 1e6 for one in seen[name]] for name in ("hubcli", "peft"))
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        bars = {"bar": BAR, "stretch": STRETCH, "interval": interval(ratios)}
        sizes = f"peft, {Spread.of(theirs).median:.1f} MB; hubcli {Spread.of(ours).median:.1f} MB"
        rows.append(Row(f"{title}: {what}", Spread.of(ratios), against=sizes, **bars))  # type: ignore[arg-type]
    return rows


def _in_a_process(name: str) -> dict[str, float]:
    """With the allocator as it comes: what it gives back does not count."""
    settings = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.training", name]
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measured(name: str) -> dict[str, float]:
    """Peak resident memory of a second step, beyond what was resident after the first; bytes of the tensors kept for backward."""
    step: Any = steps(tokens(*MEMORY_SHAPE), name)[name]
    step()
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    model = {p.untyped_storage().data_ptr() for p in step.model.parameters()}
    return {"peak": _peak(step), "kept": sum(size for at, size in kept.items() if at not in model)}


def _peak(call: Callable[[], object]) -> float:
    """How far the resident set rises during a call, in bytes: the kernel's high-water mark, set back before."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with quiet():
        print(json.dumps(measured(sys.argv[1])))
