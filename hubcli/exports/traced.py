"""From a handle to a program of torch.export: the model under what is active, its hooks traced through.

The program holds what the composition uses and nothing else: weights of other adapters are cut off, and what torch notes of
the Python source (files, lines, modules) is taken out, so that no path of this machine is in a file.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind

from hubcli.errors import HubcliError, UnsupportedError
from hubcli.exports.inputs import BATCH, DECODER, SEQUENCE, TRACED_LENGTH, TRACED_ROWS, Inputs

if TYPE_CHECKING:
    from hubcli.adapted import Adapted

WEIGHTS = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
_SOURCE = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node", "custom")
_NO_CACHE = {"use_cache": False, "return_dict": True}


class Forward(nn.Module):
    """The handle's forward as a module whose signature has the inputs' names, and whose output is a plain dict of tensors."""

    def __init__(self, handle: Adapted, names: Iterable[str]):
        super().__init__()
        self.model = handle.model
        options: dict[str, Any] = _accepted(handle.model)
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        signature = inspect.Signature([inspect.Parameter(name, kind) for name in names])

        def forward(*args: Tensor, **kwargs: Tensor) -> dict[str, Tensor]:
            return named(handle(**signature.bind(*args, **kwargs).arguments, **options))

        vars(forward)["__signature__"] = signature
        self.forward = forward


def named(out: Any) -> dict[str, Tensor]:
    """The tensors of a model's output; a list, as Parallel gives it, as `<name>_0`, `<name>_1`, …"""
    found: dict[str, Tensor] = {}
    for name, value in out.items():
        if isinstance(value, Tensor):
            found[name] = value
        elif isinstance(value, list):
            found |= {f"{name}_{i}": part for i, part in enumerate(value) if isinstance(part, Tensor)}
    return found


def traced(handle: Adapted, inputs: Inputs) -> ExportedProgram:
    """The program, its inputs those of `inputs`.

    Raises:
        UnsupportedError: the model does something that torch.export can't follow.
    """
    sample = inputs.sample(TRACED_ROWS, min(TRACED_LENGTH, inputs.longest))
    dims = {BATCH: Dim(BATCH), **{name: Dim(name, max=inputs.longest) for name in (SEQUENCE, DECODER)}}
    axes = {
        given.name: {i: dims[axis] for i, axis in enumerate(inputs.axes(given)) if isinstance(axis, str)}
        for given in inputs.inputs
    }
    try:
        with quietly(), torch.no_grad():
            program = torch.export.export(
                Forward(handle, axes),
                (),
                sample,
                dynamic_shapes=axes,
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
    except HubcliError:
        raise
    except Exception as error:
        cause = str(error).strip().partition("\n")[0]
        raise UnsupportedError(
            f"torch.export can't follow a {handle.structure.base_class} under {handle.engine.routing.program(False)}",
            cause=f"{type(error).__name__}: {cause}",
        ) from error
    prune(program)
    forget_source(program)
    return program


def prune(program: ExportedProgram) -> None:
    """Cut off weights that nothing reads."""
    unread = {node.name for node in program.graph.nodes if node.op == "placeholder" and not node.users}
    gone = [s for s in program.graph_signature.input_specs if s.kind in WEIGHTS and s.arg.name in unread]
    names = {spec.arg.name for spec in gone}
    for node in [node for node in program.graph.nodes if node.name in names]:
        program.graph.erase_node(node)
    kept = [spec for spec in program.graph_signature.input_specs if spec not in gone]
    program.graph_signature.input_specs[:] = kept
    used = {spec.target for spec in kept}
    for spec in gone:
        if spec.target not in used:
            program.state_dict.pop(str(spec.target), None)
            program.constants.pop(str(spec.target), None)
    program.graph_module.recompile()
    program.validate()  # type: ignore[no-untyped-call]


def forget_source(program: ExportedProgram) -> None:
    """Take out what nodes note of Python's files, lines and modules, and the names of the model's modules."""
    del program.module_call_graph[1:]
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for key in _SOURCE:
                    node.meta.pop(key, None)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without the warnings of tracers about their own insides."""
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch.onnx", "torch.fx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _accepted(model: nn.Module) -> dict[str, bool]:
    accepted = inspect.signature(model.forward).parameters
    return {name: value for name, value in _NO_CACHE.items() if name in accepted}


def axes_of(program: ExportedProgram, inputs: Inputs) -> dict[str, tuple[str, list[str | int]]]:
    """The outputs: name -> (dtype, axes), each axis a number or the name of what it varies with (`2*batch`)."""
    symbols: dict[str, str] = {}
    nodes = {node.name: node for node in program.graph.nodes}
    for given in inputs.inputs:
        value = nodes[given.name].meta["val"]
        symbols |= {
            str(n): axis for axis, n in zip(inputs.axes(given), value.shape, strict=True) if isinstance(axis, str)
        }
    names = program.call_spec.out_spec.context
    found = {}
    for name, spec in zip(names, program.graph_signature.output_specs, strict=True):
        value = nodes[spec.arg.name].meta["val"]
        found[name] = (str(value.dtype).removeprefix("torch."), [_axis(n, symbols) for n in value.shape])
    return found


def _axis(size: Any, symbols: dict[str, str]) -> str | int:
    if isinstance(size, int):
        return size
    text = str(size)
    for symbol, name in symbols.items():
        text = re.sub(rf"\b{symbol}\b", name, text)
    return text
