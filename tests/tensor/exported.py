"""What the tests of exports share: handles with two adapters of every method, and a process without hubcli that runs a file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, BatchSplit, Expr, Fuse, Parallel, Split, Stack
from hubcli.exports import Wish, export

from .methods import KNOWN
from .models import model_of

BLOCKS: dict[str, Expr] = {
    "alone": "a",
    "stack": Stack("a", "b"),
    "average": Average("a", "b", weights=[0.7, 0.3]),
    "split": Split("a", "b", sizes=[3, 4]),
    "batchsplit": BatchSplit("a", "b", sizes=[1, 2]),
    "parallel": Parallel("a", None),
    "fuse": Fuse("a", "b", by="mix"),
}
# what two blocks fix: (rows, length), None where they vary
FIXED = {"split": (None, 7), "batchsplit": (3, None)}
SHAPES = ((1, 1), (2, 9), (4, 32))
# Runs a program of torch.export on each set of inputs, with nothing that the file was made with.
RUN = """
import sys
for name in ("hubcli", "transformers", "peft"):
    sys.modules[name] = None
import torch
from safetensors.torch import load_file, save_file
program = torch.export.load(sys.argv[1]).module()
for file in sys.argv[2:]:
    found = program(**load_file(file))
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, file + ".out")
"""


def randomised(handle: Adapted, *names: str) -> Adapted:
    """No number of these adapters at its start, and frozen."""
    for seed, name in enumerate(names, 1):
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in handle.trainable(name):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    handle.trainable([])
    return handle


def with_two(base: nn.Module, config: Mapping[str, Any], method: str, head: str | None = None) -> Adapted:
    """Adapters a and b, and c that nothing uses."""
    handle = adapt(base)
    for name in "abc":
        handle.add(method, name, config, head=head)
    return randomised(handle, *"abc")


def of_bert(method: str, block: str = "") -> Adapted:
    """On a BERT of one layer in float32, with a fusion where the block asks for one."""
    handle = with_two(model_of("bert", torch.float32, num_hidden_layers=1), KNOWN[method].config, method)
    if block == "fuse":
        handle.add("fusion", "mix", {"of": ["a", "b"]})
        randomised(handle, "mix")
    return handle


def texts(rows: int, length: int, most: int = 60) -> dict[str, Tensor]:
    """Random inputs, the last row padded."""
    ids = torch.randint(3, most, (rows, length), generator=torch.Generator().manual_seed(rows * length))
    mask = torch.ones_like(ids)
    mask[-1, length // 2 + 1 :] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def shapes_of(block: str) -> list[tuple[int, int]]:
    rows, length = FIXED.get(block, (None, None))
    return sorted({(rows or r, length or n) for r, n in SHAPES})


def written(handle: Adapted, to: str, out: Path, **options: Any) -> dict[str, Any]:
    return export(handle, Wish(to, out, **options))


def run_apart(file: Path, folder: Path, inputs: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """What a program of torch.export gives in a process that can't import hubcli, transformers or peft."""
    names = [str(folder / f"inputs{i}.safetensors") for i in range(len(inputs))]
    for name, given in zip(names, inputs, strict=True):
        save_file({key: tensor.contiguous() for key, tensor in given.items()}, name)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN, str(file), *names],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [load_file(f"{name}.out") for name in names]
