"""The `adapters` library at work, in an environment of its own: commands as lines of JSON on stdin, answers on stdout.

Run by `benchmarks.adapters_peer`; imports nothing of hubcli or of the other benchmarks.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adapters
import torch
from adapters.composition import Average, Parallel
from safetensors.torch import save_file
from torch import Tensor
from transformers import BertModel


def average(*names: str) -> Average:
    """The mean of the children: with its own weights 1/k the library divides by k twice, the hidden state included."""
    return Average(*names, weights=[1.0] * len(names), normalize_weights=False)


BLOCKS = {"average": average, "parallel": Parallel}


class Worker:
    """A bare BERT and one with adapters, which share their parameters."""

    def __init__(self) -> None:
        self.calls: dict[str, Callable[[], Tensor]] = {}
        self.active: dict[str, Any] = {}
        self.times: dict[str, int] = {}

    def setup(self, folder: str, count: int, config: str) -> list[str]:
        """Read the base in `folder`, give it adapters none of whose numbers is at its start, and save them there too."""
        root = Path(folder)
        self.base = BertModel.from_pretrained(root / "base", add_pooling_layer=False).eval().requires_grad_(False)
        self.adapted = copy.deepcopy(self.base, {id(p): p for p in self.base.parameters()})
        adapters.init(self.adapted)
        names = [f"n{number}" for number in range(count)]
        torch.manual_seed(3)
        for name in names:
            self.adapted.add_adapter(name, config=config)
        with torch.no_grad():
            for key, parameter in self.adapted.named_parameters():
                if any(f".{name}." in key for name in names):
                    parameter.normal_(std=0.02)
        for name in names:
            self.adapted.save_adapter(str(root / name), name, use_safetensors=True)
        self.adapted.requires_grad_(False)
        return names

    def case(self, name: str, block: str, names: list[str], ids: list[list[int]], out: str) -> int:
        """Prepare a call and write its output to the file `out`."""
        batch = torch.tensor(ids)
        if block == "base":
            model, active = self.base, None
        else:
            model, active = self.adapted, BLOCKS[block](*names)

        def call() -> Tensor:
            with torch.no_grad():
                hidden: Tensor = model(batch).last_hidden_state
            return hidden

        def activated() -> Tensor:
            self.adapted.set_active_adapters(active)
            return call()

        hidden = call() if active is None else activated()
        save_file({"hidden": hidden.contiguous()}, out)
        self.calls[name] = call
        self.active[name] = active
        return 1

    def time(self, name: str, ms: float) -> float:
        """CPU milliseconds of one call, repeated for about so long; what it runs is made active first, untimed."""
        if self.active[name] is not None:
            self.adapted.set_active_adapters(self.active[name])
        call = self.calls[name]
        if name not in self.times:
            call()
            self.times[name] = max(1, round(ms / max(_spent(call, 1), 1e-6)))
        return _spent(call, self.times[name])


def _spent(call: Callable[[], Any], times: int) -> float:
    start = time.process_time_ns()
    for _ in range(times):
        call()
    return (time.process_time_ns() - start) / 1e6 / times


def main() -> None:
    """Answer commands until stdin ends."""
    torch.set_num_threads(1)
    worker = Worker()
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(worker, command.pop("do"))(**command)
        print(json.dumps(answer), file=ANSWERS, flush=True)


if __name__ == "__main__":
    ANSWERS, sys.stdout = sys.stdout, sys.stderr  # libraries print
    main()
