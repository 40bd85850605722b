"""The one child module that the handle adds to a model: what trains, and replaced modules, so that optimisers see them,
`.to()` moves them and `.train()` reaches them. In no `state_dict`, so that a checkpoint of the model stays the model's own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from hubcli.errors import UnsupportedError, WeightsError

if TYPE_CHECKING:
    from hubcli.adapted import Adapted

CHILD = "hubcli_residents"
ADDED_HEAD = "added head"  # in a room's keys, where a path stands for other modules
HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


class Residents(nn.Module):
    """Holds one `Room` for each adapter that trains or replaces modules."""

    def __init__(self, handle: Adapted):
        super().__init__()
        self.handle = handle

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Residents:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.handle.moved(fn)
        return self

    def state_dict(self, *args: Any, destination: Any = None, **kwargs: Any) -> Any:
        """Nothing: the base's checkpoint holds no adapter."""
        del args, kwargs
        return OrderedDict() if destination is None else destination

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        return None

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Nothing to load."""
        del args, kwargs
        return nn.modules.module._IncompatibleKeys([], [])


class Room(Residents):
    """One adapter's parameters and replaced modules; empty in a state_dict like its parent.

    The modules themselves are no children: a strict load would miss their keys. Their parameters are registered here.
    """

    def __init__(self, handle: Adapted):
        super().__init__(handle)
        self.replicas: list[nn.Module] = []
        #: Where the last move made new Parameters, as one to another kind of device does: id of the old one -> the new one.
        self.moved: dict[int, nn.Parameter] = {}

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Room:
        before = dict(self._parameters)
        nn.Module._apply(self, fn, recurse)  # type: ignore[no-untyped-call]
        self.moved = {
            id(old): new for key, old in before.items() if (new := self._parameters[key]) is not None and new is not old
        }
        for module in (m for twin in self.replicas for m in twin.modules()):
            own = module._parameters
            module._parameters = {name: self.moved.get(id(p), p) for name, p in own.items()}
            module._buffers = {name: None if b is None else fn(b) for name, b in module._buffers.items()}
        return self

    def train(self, mode: bool = True) -> Room:
        """Set the mode, in the replaced modules too."""
        super().train(mode)
        for twin in self.replicas:
            twin.train(mode)
        return self

    def keep(self, path: str, parameter: str, tensor: Tensor, *, trains: bool) -> nn.Parameter:
        """Register a parameter of a site; dots can't be in its name."""
        made = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, requires_grad=trains)
        self.register_parameter(f"{path}.{parameter}".replace(".", "/"), made)
        return made

    def adopt(self, path: str, twin: nn.Module) -> None:
        """Take in a replaced module."""
        self.replicas.append(twin)
        for name, parameter in twin.named_parameters():
            self.keep(path, name, parameter, trains=False)


def replica(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> nn.Module:
    """A twin of `module` without hooks, whose parameters are `tensors` (by name inside the module); nothing is copied.

    Raises:
        WeightsError: a parameter is missing, unknown, or has another number of dimensions.
        UnsupportedError: the module is quantised.
    """
    twin = _clone(module)
    expected = {name for name, _ in module.named_parameters()}
    if set(tensors) != expected:
        raise WeightsError(f"{where}: expected tensors {sorted(expected)}, found {sorted(tensors)}")
    for name, tensor in tensors.items():
        owner_name, _, leaf = name.rpartition(".")
        owner = twin.get_submodule(owner_name)
        own = owner._parameters[leaf]
        assert own is not None
        if not own.is_floating_point():
            raise UnsupportedError(
                f"{where}.{name}: a quantised module can't be replaced or trained",
                hint="keep the head in full precision: llm_int8_skip_modules in its BitsAndBytesConfig",
            )
        if own.dim() != tensor.dim():
            raise WeightsError(f"{where}.{name}: expected shape {tuple(own.shape)}, found {tuple(tensor.shape)}")
        kept = tensor.to(device=own.device, dtype=own.dtype if own.is_floating_point() else tensor.dtype)
        owner._parameters[leaf] = nn.Parameter(kept.detach(), requires_grad=False)
        _resize(owner, leaf, kept)
    return twin


def _clone(module: nn.Module) -> nn.Module:
    twin = module.__class__.__new__(module.__class__)
    twin.__dict__.update(module.__dict__)
    twin.__dict__.pop("forward", None)
    for hooks in HOOKS:
        if hooks in twin.__dict__:
            twin.__dict__[hooks] = OrderedDict()
    twin._parameters = dict(module._parameters)
    twin._buffers = dict(module._buffers)
    twin._modules = {name: None if child is None else _clone(child) for name, child in module._modules.items()}
    return twin


def _resize(owner: nn.Module, parameter: str, tensor: Tensor) -> None:
    """Let a Linear or Embedding say its new size."""
    if parameter != "weight":
        return
    names = {nn.Linear: ("out_features", "in_features"), nn.Embedding: ("num_embeddings", "embedding_dim")}
    for kind, (rows, columns) in names.items():
        if isinstance(owner, kind):
            setattr(owner, rows, tensor.shape[0])
            setattr(owner, columns, tensor.shape[1])
