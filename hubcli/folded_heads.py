"""Replaced modules as the model's own: copies, so that the adapters stay what they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from hubcli.adapter import finite
from hubcli.errors import WeightsError
from hubcli.heads import CutHead, Mean, Replace
from hubcli.residents import replica


def copied(twin: nn.Module, path: str) -> nn.Module:
    """A copy with parameters of its own.

    Raises:
        WeightsError: NaN or infinity (E_WEIGHTS_NONFINITE).
    """
    tensors = {name: parameter.detach().clone() for name, parameter in checked(twin, path).named_parameters()}
    return replica(twin, tensors, path)


def checked(twin: nn.Module, path: str) -> nn.Module:
    """The module, once all its numbers are finite; errors as `copied`."""
    for name, tensor in twin.named_parameters():
        if tensor.is_floating_point() and not finite(tensor):
            raise WeightsError(f"{path}.{name} of an adapter holds NaN or infinity", id="E_WEIGHTS_NONFINITE")
    return twin


def one_module(step: Any, path: str) -> nn.Module | None:
    """One module that does what a step does: a copy, or the weighted mean of linear ones; None: there is none."""
    parts = list(_weighed(step, 1.0))
    if not parts or (len(parts) > 1 and any(type(twin) is not nn.Linear for twin, _ in parts)):
        return None
    made = copied(parts[0][0], path)
    if len(parts) > 1:
        for name, parameter in made.named_parameters():
            finer = torch.promote_types(parameter.dtype, torch.float32)
            given = [checked(twin, path).get_parameter(name).detach().to(finer) * weight for twin, weight in parts]
            parameter.data = torch.stack(given).sum(0).to(parameter.dtype)
    return made


def _weighed(step: Any, weight: float) -> Iterator[tuple[nn.Module, float]]:
    """The modules of which a step is the weighted sum; none where it is something else."""
    if isinstance(step, Replace):
        yield step.module, weight
    elif isinstance(step, Mean) and not any(_cuts(part) for part in step.steps):
        for part, share in zip(step.steps, step.weights, strict=True):
            yield from _weighed(part, weight * share)


def _cuts(step: Any) -> bool:
    if isinstance(step, Mean):
        return any(map(_cuts, step.steps))
    return not isinstance(step, Replace)


def several(step: Any, path: str, made: list[nn.Module]) -> Any:
    """The same step over copies, which go into `made`."""
    if step is None:
        return None
    if isinstance(step, Replace):
        made.append(copied(step.module, path))
        return Replace(made[-1])
    steps = [several(part, path, made) for part in step.steps]
    return Mean(steps, step.weights) if isinstance(step, Mean) else CutHead(step.block, steps)
