"""The config of a BitFit adapter, read and checked. Torch-free: an installer reads it too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hubcli.errors import ConfigKeyError
from hubcli.method import Targets

KEYS = (
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save"),
    "add_biases",
)
EVERY = ".*"
PARAMETER = "bias_delta"
Problem = tuple[str, str]


@dataclass(frozen=True, slots=True)
class BitFitSettings:
    """Which modules' biases change; with `add`, linear modules and convolutions without one get one."""

    targets: Targets
    add: bool = False

    @property
    def named(self) -> bool:
        """Whether modules are named one by one: then each of them must have a bias."""
        return not isinstance(self.targets.include, str)


def read_settings(config: Mapping[str, Any]) -> BitFitSettings:
    """The settings of a config.

    Raises:
        ConfigKeyError: a key that is unknown, a value of a wrong type, a pattern that is refused.
    """
    unknown = [key for key in config if key not in KEYS]
    if unknown:
        raise ConfigKeyError(f"BitFit config: {', '.join(unknown)}: expected only {', '.join(KEYS)}")
    layers, add = config.get("layers_to_transform"), config.get("add_biases")
    if not (layers is None or _whole(layers) or (isinstance(layers, list | tuple) and all(map(_whole, layers)))):
        raise ConfigKeyError(f"layers_to_transform: expected layer indices, found {layers!r:.60}")
    if not (add is None or isinstance(add, bool)):
        raise ConfigKeyError(f"add_biases: expected true or false, found {add!r:.60}")
    chosen = config.get("target_modules")
    include = _names(config, "target_modules", pattern=True) if chosen is not None else EVERY
    if chosen is None and layers is not None:
        raise ConfigKeyError("layers_to_transform: needs target_modules beside it, a list of names")
    targets = Targets(
        include=include,
        exclude=_names(config, "exclude_modules", pattern=True),
        layers=None if layers is None else (layers,) if isinstance(layers, int) else tuple(layers),
        layers_pattern=tuple(_names(config, "layers_pattern")),
        skip=tuple(_names(config, "modules_to_save")),
    )
    targets.validate()
    return BitFitSettings(targets, bool(add))


def check(config: dict[str, Any], tensors: dict[str, tuple[str, tuple[int, ...]]]) -> list[Problem]:
    """All that is wrong, as (error id, sentence), from the config and the tensors' (dtype, shape) alone."""
    try:
        settings = read_settings(config)
    except ConfigKeyError as error:
        return [("E_CONFIG_KEY", error.message)]
    found: list[Problem] = []
    deltas = 0
    for name, (dtype, shape) in tensors.items():
        if not dtype.startswith(("F", "BF")):
            found.append(("E_WEIGHTS", f"{name}: expected floating-point weights, found {dtype}"))
        path, _, parameter = name.rpartition(".")
        in_head = any(f".{head}." in f".{name}" for head in settings.targets.skip)
        if parameter == PARAMETER:
            deltas += 1
            if not settings.targets.match(path):
                found.append(("E_WEIGHTS", f"{path}: has a bias, but the config doesn't name it"))
            if len(shape) != 1:
                found.append(("E_WEIGHTS", f"{name}: expected a vector, found shape {shape}"))
        elif not in_head:
            found.append(("E_WEIGHTS", f"{name}: no bias of a BitFit, and in no module of modules_to_save"))
    return found if deltas else [*found, ("E_WEIGHTS", "no bias in the file")]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _names(config: Mapping[str, Any], key: str, *, pattern: bool = False) -> Any:
    """A pattern where one may stand, else names as a tuple."""
    given = config.get(key) or ()
    if isinstance(given, str):
        return given if pattern else (given,)
    if not isinstance(given, list | tuple | set) or not all(isinstance(name, str) for name in given):
        raise ConfigKeyError(f"{key}: expected names, found {given!r:.60}")
    return tuple(sorted(given)) if isinstance(given, set) else tuple(given)
