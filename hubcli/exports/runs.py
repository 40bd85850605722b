"""Files that run a model under a composition: written, read back and compared with the hooked model on several shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.export import ExportedProgram

from hubcli.answers import task_of
from hubcli.errors import UnsupportedError
from hubcli.exports import Json, Wish, agree, base_id
from hubcli.exports.inputs import Input, Inputs, dtype_of, inputs_of
from hubcli.exports.traced import Forward, axes_of, traced
from hubcli.heads import branches
from hubcli.pretrained import LABELLED

if TYPE_CHECKING:
    from hubcli.adapted import Adapted

Outputs = dict[str, Tensor]
# per dtype, the largest difference allowed, relative to the largest number (at least 1) that the model gives
ALLOWED = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


class Runtime(Protocol):
    """The module of one format."""

    def check(self, handle: Adapted, wish: Wish) -> None:
        """Refuse what the format can't hold, before anything is done."""
        ...

    def save(self, program: ExportedProgram, file: Path, notes: dict[str, Any], wish: Wish) -> Json:
        """Write the program; what the report says of the format."""
        ...

    def opened(self, file: Path) -> Callable[[dict[str, Tensor]], Outputs]:
        """What runs the file."""
        ...


def write(handle: Adapted, wish: Wish, file: Path) -> Json:
    """Trace, write and check; the report's part on inputs, outputs and the difference.

    Raises:
        UnsupportedError, AdapterError, MissingExtraError: as `hubcli.exports.export`.
    """
    runtime: Runtime = import_module(f"hubcli.exports.{wish.to}")
    if handle.structure.quantisation is not None:
        raise UnsupportedError(
            f"a base in {handle.structure.quantisation} can't be traced", hint="load it with quantize=None"
        )
    _check_dtype(handle, wish)
    runtime.check(handle, wish)
    program = handle.engine.routing.program(False)
    inputs = inputs_of(handle, program)
    training = handle.model.training
    handle.model.eval()
    try:
        wish.note("tracing the model")
        exported = traced(handle, inputs)
        axes = axes_of(exported, inputs)
        labels = labels_of(handle, list(axes))
        notes = {
            "expression": str(program),
            "base": base_id(handle),
            "labels": labels,
            "axes": axes,
            "input_axes": {given.name: inputs.axes(given) for given in inputs.inputs},
        }
        wish.note(f"writing and checking {wish.out.name}")
        kept = runtime.save(exported, file, notes, wish)
        worst = compared(runtime.opened(file), handle, inputs, f"{wish.out.name}, read back,")
    finally:
        handle.model.train(training)
    return {
        "inputs": [_described(given, inputs) for given in inputs.inputs],
        "outputs": [
            {"name": name, "dtype": kind, "axes": shape, "labels": labels.get(name, [])}
            for name, (kind, shape) in axes.items()
        ],
        "tensors": None,
        "difference": worst,
        "checked": [list(next(iter(sample.values())).shape) for sample in inputs.samples()],
        "opset": None,
        **kept,
    }


def _check_dtype(handle: Adapted, wish: Wish) -> None:
    own = str(dtype_of(handle)).removeprefix("torch.")
    if wish.dtype not in (None, own):
        raise UnsupportedError(
            f"dtype '{wish.dtype}': the model computes in {own}", hint=f"model.to(torch.{wish.dtype})"
        )


def compared(run: Callable[[dict[str, Tensor]], Outputs], handle: Adapted, inputs: Inputs, what: str) -> float:
    """The largest difference between what a file and the hooked model give, over several shapes.

    Raises:
        AdapterError: it is more than rounding.
    """
    worst = 0.0
    forward = Forward(handle, [given.name for given in inputs.inputs])
    for sample in inputs.samples():
        with torch.no_grad():
            expected, found = forward(**sample), run(sample)
        for name, tensor in expected.items():
            difference = apart(tensor, found[name])
            finite = tensor[tensor.isfinite()]
            largest = finite.abs().max().item() if finite.numel() else 1.0
            agree(difference, ALLOWED.get(tensor.dtype, 0.0) * max(1.0, largest), f"'{name}' of {what}")
            worst = max(worst, difference)
    return worst


def apart(one: Tensor, other: Tensor) -> float:
    """The largest absolute difference; equal infinities (a head's padding) are none, another shape is infinite."""
    if one.shape != other.shape:
        return float("inf")
    one, other = one.double().cpu(), other.double().cpu()
    return torch.where(one == other, 0.0, (one - other).abs()).max().item() if one.numel() else 0.0


def labels_of(handle: Adapted, outputs: Iterable[str]) -> dict[str, list[str]]:
    """The labels of each output that has some: of one head, or under Parallel of each child's."""
    program = handle.engine.routing.program(False)
    task = task_of(program, handle.engine.adapters) or handle.structure.task[0]
    if task not in LABELLED or program.rows is not None:
        return {}
    children = branches(program.expr)
    found = {f"logits_{i}": list(handle.labels_of(child)) for i, child in enumerate(children)}
    found["logits"] = list(handle.labels_of(program.expr))
    return {name: labels for name in outputs if (labels := found.get(name))}


def _described(given: Input, inputs: Inputs) -> Json:
    return {"name": given.name, "dtype": str(given.dtype).removeprefix("torch."), "axes": list(inputs.axes(given))}
