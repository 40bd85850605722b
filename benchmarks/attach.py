"""Attaching an installed adapter, loading the n-th one, and swapping among residents, beside peft. On a random BERT-base.

hubcli takes adapters by their refs from a store: the record is read, every file is hashed and compared with it, and its config
is checked. peft reads a folder and checks nothing.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn

import hubcli
from benchmarks.installed import install
from benchmarks.measure import Result, Row, Spread, rounds_of
from benchmarks.models import PACKAGES, bert, forward, lora, peft_model, quiet, saved, tokens, twin
from benchmarks.paired import Timed, same, total
from hubcli.adapted import Adapted

FILES, MANY, FEW, PEFT_MANY = 24, 1000, 10, 100
Contestants = dict[str, Callable[[], float]]


class Bench:
    """A random BERT-base, adapters for it in folders and in a store."""

    def __init__(self, folder: Path):
        self.base = bert(12)
        names = [f"n{number}" for number in range(FILES)]
        self.folders: dict[str, Path] = {}
        tuned = peft_model(self.base, {"default": lora()})
        for name in names:
            with torch.no_grad():
                for key, parameter in tuned.named_parameters():
                    if "lora_" in key:
                        parameter.normal_(std=0.02)
            self.folders[name] = saved(tuned, folder / "peft" / name)["default"]
        self.refs = install(folder, self.folders)

    def source(self, number: int) -> str:
        """One of the files' names."""
        return f"n{number % FILES}"

    def handle(self, residents: int) -> Adapted:
        """hubcli with so many adapters loaded from the store."""
        handle = hubcli.adapt(twin(self.base))
        for number in range(residents):
            handle.load(self.refs[self.source(number)], f"resident{number}")
        handle.activate("resident0")
        return handle

    def peft(self, residents: int) -> PeftModel:
        """peft with so many adapters loaded from folders."""
        tuned = PeftModel.from_pretrained(twin(self.base), str(self.folders["n0"]), adapter_name="resident0")
        for number in range(1, residents):
            tuned.load_adapter(str(self.folders[self.source(number)]), f"resident{number}")
        return tuned


def run(rounds: int, seed: int) -> Result:
    """Measure; outputs are compared first."""
    result = Result("attach", rounds, seed, packages=PACKAGES)
    with tempfile.TemporaryDirectory() as folder, quiet():
        bench = Bench(Path(folder))
        _check(bench)
        times = rounds_of(_attaching(bench), rounds, seed)
        result.rows.append(_of("attach from the store", times, "ref", "peft", 1 / 6, 1 / 12))
        result.rows.append(_of("attach from a folder, not compared with a record", times, "folder", "peft"))
        few, many, peft_few, peft_many = (
            bench.handle(FEW - 1),
            bench.handle(MANY - 1),
            bench.peft(4),
            bench.peft(PEFT_MANY - 1),
        )
        times = rounds_of(_loading(bench, few, many, peft_many), rounds, seed)
        result.rows += _load_rows(times)
        times = rounds_of(
            _swapping({4: bench.handle(4), 100: bench.handle(100), MANY - 1: many}, peft_few, peft_many), rounds, seed
        )
        result.rows += _swap_rows(times)
        result.facts = {"bytes": (bench.folders["n0"] / "adapter_model.safetensors").stat().st_size}
    recompiles = _recompiles()
    result.rows.append(Row("graphs compiled anew by 12 swaps among 4 adapters", Spread.of([recompiles]), "", bar=0))
    return result


def _of(
    what: str,
    times: dict[str, list[float]],
    own: str,
    peer: str,
    bar: float | None = None,
    stretch: float | None = None,
) -> Row:
    return total(what, times, own, peer, against="`PeftModel.from_pretrained`", bar=bar, stretch=stretch)


def _check(bench: Bench) -> None:
    ids = tokens(2, 16)
    handle, tuned = bench.handle(1), bench.peft(1)
    same("attach", forward(handle.model, ids)().last_hidden_state, forward(tuned, ids)().last_hidden_state)


def _spent(call: Callable[[], object]) -> float:
    """CPU milliseconds of one call that can't be repeated as it is."""
    start = time.process_time_ns()
    call()
    return (time.process_time_ns() - start) / 1e6


def _attaching(bench: Bench) -> Contestants:
    """A new model each time; making it does not count."""

    def by(attach: Callable[[nn.Module], object]) -> Callable[[], float]:
        def contestant() -> float:
            model = twin(bench.base)
            return _spent(lambda: attach(model))

        return contestant

    def own(source: str | Path) -> Callable[[nn.Module], object]:
        def attach(model: nn.Module) -> None:
            handle = hubcli.adapt(model)
            handle.activate(handle.load(source))

        return attach

    return {
        "ref": by(own(bench.refs["n0"])),
        "folder": by(own(bench.folders["n0"])),
        "peft": by(lambda model: PeftModel.from_pretrained(model, str(bench.folders["n0"]))),
    }


def _loading(bench: Bench, few: Adapted, many: Adapted, tuned: PeftModel) -> Contestants:
    """One more adapter, which is taken off again, untimed."""
    number = itertools.count()

    def own(handle: Adapted) -> Callable[[], float]:
        def load(name: str, ref: str) -> None:
            handle.activate(handle.load(ref, name))

        def contestant() -> float:
            at = next(number)
            name, ref = f"more{at}", bench.refs[bench.source(at)]
            spent = _spent(lambda: load(name, ref))
            handle.activate("resident0")
            handle.detach(name)
            return spent

        return contestant

    def peer() -> float:
        at = next(number)
        folder = str(bench.folders[bench.source(at)])
        spent = _spent(lambda: tuned.load_adapter(folder, f"more{at}"))
        tuned.delete_adapter(f"more{at}")
        return spent

    return {"10th": own(few), "1000th": own(many), "peft's 100th": peer}


def _load_rows(times: dict[str, list[float]]) -> list[Row]:
    return [
        total(
            "load and activate the 1,000th adapter", times, "1000th", "10th", against="own 10th", bar=1.5, stretch=1.1
        ),
        total(
            "load and activate the 1,000th adapter",
            times,
            "1000th",
            "peft's 100th",
            against="`load_adapter`, peft's 100th",
            bar=1 / 100,
            stretch=1 / 190,
        ),
    ]


def _swapping(handles: dict[int, Adapted], few: PeftModel, many: PeftModel) -> Contestants:
    """`activate` of another resident: its plan made anew, or kept from before; peft's `set_adapter`."""
    contestants: Contestants = {}
    for residents, handle in handles.items():
        contestants[f"cold {residents}"] = Timed(_cold(handle), 10)
        contestants[f"warm {residents}"] = Timed(_swap(handle.activate), 10, prepare=_all_four(handle))
    contestants["peft 4"] = Timed(_swap(few.set_adapter), 10)
    contestants["peft 100"] = Timed(_swap(many.set_adapter), 10)
    return contestants


NAMES = [f"resident{number}" for number in range(4)]


def _swap(activate: Callable[[Any], object]) -> Callable[[], None]:
    turns = itertools.cycle(NAMES)

    def swap() -> None:
        activate(next(turns))

    return swap


def _cold(handle: Adapted) -> Callable[[], None]:
    """A swap to an expression that has no plan."""
    swap = _swap(handle.activate)

    def cold() -> None:
        handle.engine.programs.clear()
        swap()

    return cold


def _all_four(handle: Adapted) -> Callable[[], None]:
    """Make the four plans."""

    def prepare() -> None:
        for name in NAMES:
            handle.activate(name)

    return prepare


def _swap_rows(times: dict[str, list[float]]) -> list[Row]:
    rows = []
    for kind, bar, stretch in (("cold", 1 / 20, 1 / 46), ("warm", 1 / 1000, None)):
        for residents in (4, 100):
            what = f"swap, plan {kind}, {residents} resident"
            against = f"`set_adapter`, {residents} resident"
            rows.append(
                total(
                    what, times, f"{kind} {residents}", f"peft {residents}", against=against, bar=bar, stretch=stretch
                )
            )
    what = f"swap, plan cold, {MANY - 1} resident"
    return [*rows, total(what, times, f"cold {MANY - 1}", "cold 4", against="own, 4 resident", bar=1.5)]


def _recompiles() -> int:
    """How many graphs a compiled model makes after its first, when adapters of the same shapes are swapped."""
    base = bert(2, hidden_size=32, num_attention_heads=2, intermediate_size=32)
    ids, graphs = tokens(2, 8), 0

    def backend(graph: Any, _: Sequence[torch.Tensor]) -> Any:
        nonlocal graphs
        graphs += 1
        return graph.forward

    with tempfile.TemporaryDirectory() as folder:
        tuned = peft_model(base, {f"n{number}": lora(4) for number in range(4)})
        handle = hubcli.adapt(twin(base))
        for name, where in saved(tuned, Path(folder)).items():
            handle.load(where, name)
    compiled = torch.compile(handle.model, fullgraph=True, backend=backend)
    handle.activate("n0")
    forward(compiled, ids)()
    first = graphs
    for number in range(1, 13):
        handle.activate(f"n{number % 4}")
        tuned.set_adapter(f"n{number % 4}")
        same("compiled", forward(compiled, ids)().last_hidden_state, forward(tuned, ids)().last_hidden_state)
    return graphs - first
