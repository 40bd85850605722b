"""ONNX files of encoders like BERT, by `torch.onnx.export(dynamo=True)`; onnxruntime runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from hubcli._version import __version__
from hubcli.errors import UnsupportedError
from hubcli.exports.inputs import dtype_of
from hubcli.exports.traced import quietly

if TYPE_CHECKING:
    from hubcli.adapted import Adapted
    from hubcli.exports import Wish

FAMILIES = ("albert", "bert", "distilbert", "electra", "roberta", "xlm-roberta")
OPSETS = range(18, 24)
DEFAULT_OPSET = 20
LARGEST = 2**31 - 1  # bytes of one protobuf message


def check(handle: Adapted, wish: Wish) -> None:
    """Refuse what is not known to work.

    Raises:
        UnsupportedError: another family, dtype or opset.
    """
    family = getattr(getattr(handle.model, "config", None), "model_type", None)
    if family not in FAMILIES:
        raise UnsupportedError(
            f"a model of type '{family}' can't be written as onnx; supported: {', '.join(FAMILIES)}",
            hint="pt2 holds any model",
        )
    if dtype_of(handle) != torch.float32:
        found = str(dtype_of(handle)).removeprefix("torch.")
        raise UnsupportedError(f"onnx: expected a base in float32, found {found}", hint="dtype='float32'")
    if wish.opset is not None and wish.opset not in OPSETS:
        raise UnsupportedError(f"opset {wish.opset}: expected {OPSETS[0]} to {OPSETS[-1]}", hint=f"{DEFAULT_OPSET}")


def save(program: ExportedProgram, file: Path, notes: dict[str, Any], wish: Wish) -> dict[str, Any]:
    """Write the program, with what a reader needs to know of it in its metadata: labels, expression, base, version."""
    import onnx

    opset = wish.opset or DEFAULT_OPSET
    inputs = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    with quietly():
        made: Any = torch.onnx.export(
            program,
            (),
            input_names=inputs,
            output_names=list(notes["axes"]),
            opset_version=opset,
            dynamo=True,
            verbose=False,
            optimize=True,
        )
    model = made.model_proto
    _rename_axes(model, notes["axes"], notes["input_axes"])
    _forget_source(model)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, _metadata(notes))
    model.producer_name, model.producer_version = "hubcli", __version__
    if model.ByteSize() > LARGEST:
        raise UnsupportedError(
            f"the model has {model.ByteSize():,} bytes, and one onnx file holds less than 2 GiB",
            hint="pt2 holds any size",
        )
    file.write_bytes(model.SerializeToString())
    return {"opset": opset}


def opened(file: Path) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """The file in onnxruntime, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(sample: dict[str, Tensor]) -> dict[str, Tensor]:
        found = session.run(names, {name: tensor.cpu().numpy() for name, tensor in sample.items()})
        return {name: torch.from_numpy(array) for name, array in zip(names, found, strict=True)}

    return run


def _metadata(notes: dict[str, Any]) -> dict[str, str]:
    given = {
        "expression": notes["expression"],
        "base": notes["base"],
        "labels": json.dumps(notes["labels"], ensure_ascii=False) if notes["labels"] else None,
        "hubcli_version": __version__,
    }
    return {key: value for key, value in given.items() if value is not None}


def _rename_axes(model: Any, outputs: dict[str, Any], inputs: dict[str, Any]) -> None:
    """Call axes by their names where the tracer has numbered them."""
    for value in (*model.graph.input, *model.graph.output):
        axes = inputs[value.name] if value.name in inputs else outputs[value.name][1]
        for dim, axis in zip(value.type.tensor_type.shape.dim, axes, strict=True):
            if isinstance(axis, str):
                dim.dim_param = axis


def _forget_source(model: Any) -> None:
    """Take out what nodes note of Python's files, lines and modules."""
    graph = model.graph
    for holder in (*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output, graph):
        del holder.metadata_props[:]
        holder.doc_string = ""
    for function in model.functions:
        for node in (*function.node, function):
            del node.metadata_props[:]
            node.doc_string = ""
    del graph.value_info[:]
