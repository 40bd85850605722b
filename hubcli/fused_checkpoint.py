"""A composition folded into its base, written as an ordinary transformers checkpoint, and read back before it counts."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from hubcli import fuse, quantised
from hubcli.adapted import Adapted
from hubcli.adapter import finite
from hubcli.errors import UnsupportedError, WeightsError
from hubcli.pretrained import AUTO, LABELLED, OF_READING, pretrained, saved
from hubcli.residents import CHILD

STEPS = 4


@dataclass(frozen=True, slots=True)
class Written:
    """What a checkpoint holds: the modules with something folded in, the replaced ones, the labels of a classifier.

    `rounding` is by how much rounding to `dtype` moved a folded number at most; `error` by how much the 4-bit weights are away
    from the folded ones at most, None where nothing was quantised.
    """

    architecture: str
    dtype: str
    modules: tuple[str, ...]
    heads: tuple[str, ...]
    labels: tuple[str, ...]
    rounding: float
    error: float | None = None


def write(
    handle: Adapted,
    folder: Path | None,
    *,
    max_shard_size: str = "5GB",
    requantize: str | None = None,
    tick: Callable[[int, int], None] = lambda done, of: None,
) -> Written:
    """Fold what is active into the weights, write them to an empty folder, and take the fold back.

    Args:
        folder: None: fold and check, write nothing.
        max_shard_size: of a weights file.
        requantize: how linear modules are quantised in what is written, as `hubcli.quantised` can.
        tick: told after each of the `STEPS`: folded, written, compared, quantised again.

    Raises:
        UnsupportedError: what is no weight, by name; or a weight that `from_pretrained` would not give back.
        WeightsError: NaN or infinity. HubcliError: as `hubcli.fuse.fuse`.
    """
    made = fuse.fuse(handle.engine, None, weights_only=True)
    try:
        model: Any = handle.model
        whole = ordinary(model)
        _check(whole)
        tick(1, STEPS)
        error = None
        if folder is not None:
            place = folder / "folded" if requantize else folder
            saved(whole, place, max_shard_size)
            tick(2, STEPS)
            if handle.tokenizer is not None:
                _save_tokenizer(handle.tokenizer, folder)
            _compare(whole, _again(whole, place))
            tick(3, STEPS)
            if requantize:
                error = _requantised(handle, whole, place, folder, requantize, max_shard_size)
        dtype = str(whole.dtype).removeprefix("torch.")
        labels = handle.structure.labels() if made.heads and handle.structure.task[0] in LABELLED else ()
        return Written(
            type(whole).__name__, dtype, tuple(made.weights), tuple(made.heads), labels, made.rounding, error
        )
    finally:
        fuse.unfuse(handle.engine)


def ordinary(model: Any) -> Any:
    """The model; of one with quantised modules, a model of the same config with all weights in full precision."""
    modules = dict(model.named_modules())
    if not any(quantised.is_quantised(module) for module in modules.values()):
        return model
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        made = type(model)._from_config(config)
    tensors: dict[str, Tensor] = {}
    for key in made.state_dict():
        path, _, name = key.rpartition(".")
        module = modules[path]
        tensor = quantised.dequantised(module) if name == "weight" and quantised.is_quantised(module) else None
        tensor = getattr(module, name).detach() if tensor is None else tensor.to(module.compute_dtype or torch.float32)
        turned = isinstance(made.get_submodule(path), Conv1D) and not isinstance(module, Conv1D) and name == "weight"
        tensors[key] = tensor.t().contiguous() if turned else tensor
    made.load_state_dict(tensors, assign=True)
    return made


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """As the tokenizer writes itself, without what it was loaded with here."""
    own = copy.copy(tokenizer)
    own.init_kwargs = {
        key: value for key, value in tokenizer.init_kwargs.items() if key not in (*OF_READING, "is_local")
    }
    own.save_pretrained(folder)


def _parameters(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if not name.startswith(f"{CHILD}."):
            yield name, parameter.detach()


def _check(model: nn.Module) -> None:
    """All numbers, those of the base too."""
    for name, tensor in _parameters(model):
        if tensor.is_floating_point() and not finite(tensor):
            raise WeightsError(f"{name} holds NaN or infinity", id="E_WEIGHTS_NONFINITE")


def _again(model: Any, folder: Path) -> Any:
    """What `from_pretrained` makes of a folder."""
    return pretrained(type(model).__name__, str(folder), {"dtype": model.dtype, "local_files_only": True})


def _compare(model: nn.Module, again: nn.Module) -> None:
    found: Mapping[str, Tensor] = dict(_parameters(again))
    for name, tensor in _parameters(model):
        if name not in found:
            raise UnsupportedError(
                f"{name}: a {type(model).__name__} has no such weight, so from_pretrained would drop it",
                hint="leave that module out of the adapter, or fuse in memory: adapted.fuse()",
            )
        if not torch.equal(found[name], tensor.cpu()):
            raise UnsupportedError(f"{name}: from_pretrained does not give back what was written")


def _requantised(handle: Adapted, whole: Any, source: Path, folder: Path, kind: str, max_shard_size: str) -> float:
    """Write the folded checkpoint anew in 4 bit; by how much its weights are away at most."""
    made_as = AUTO[handle.structure.task[0]]
    given = {"dtype": whole.dtype, "local_files_only": True}
    device = next(handle.model.parameters()).device
    heads = {name for adapter in handle.engine.adapters.values() for name in adapter.heads}
    model = pretrained(
        made_as, str(source), given | quantised.options(kind, made_as, str(source), given, device, heads)
    )
    quantised.check_done(kind, model, handle.structure.base_class)
    error = 0.0
    for path, module in model.named_modules():
        if quantised.is_quantised(module):
            weight = whole.get_submodule(path).weight.detach().to(device)
            weight = weight.t() if isinstance(whole.get_submodule(path), Conv1D) else weight
            error = max(error, (quantised.dequantised(module).float() - weight.float()).abs().max().item())
    saved(model, folder, max_shard_size)
    shutil.rmtree(source)
    return error
