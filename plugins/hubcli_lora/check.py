"""Checks on a LoRA adapter from its config and its tensors' names and shapes alone, before anything is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hubcli.errors import ConfigKeyError
from hubcli_lora.settings import LoraSettings, problems, read_settings

Problem = tuple[str, str]
PREFIX = "base_model.model."
# the ending of a key -> the parameter; the longest that fits counts
KEYS = {
    "lora_A.weight": "lora_A",
    "lora_B.weight": "lora_B",
    "lora_B.bias": "lora_bias",
    "lora_embedding_A": "embedding_A",
    "lora_embedding_B": "embedding_B",
    "lora_magnitude_vector": "magnitude",
    "base_layer.bias": "bias",
}
PAIRS = (("lora_A", "lora_B"), ("embedding_A", "embedding_B"))


def check(config: dict[str, Any], tensors: dict[str, tuple[str, tuple[int, ...]]]) -> list[Problem]:
    """All that is wrong, as (error id, sentence): E_CONFIG_KEY, E_RANK, E_WEIGHTS.

    `tensors` maps the names in the file to (dtype, shape), as its header has them: peft's names, or those of hubcli's own
    format, `<module path>.<parameter>`.
    """
    found: list[Problem] = [("E_CONFIG_KEY", text) for text in problems(config)]
    if found:
        return found
    try:
        settings = read_settings(config)
    except ConfigKeyError as error:
        return [("E_CONFIG_KEY", error.message)]
    sites: dict[str, dict[str, tuple[int, ...]]] = {}
    own = not any(name.startswith(PREFIX) for name in tensors)
    for name, (dtype, shape) in tensors.items():
        if not dtype.startswith(("F", "BF")):
            found.append(("E_WEIGHTS", f"{name}: expected floating-point weights, found {dtype}"))
        path, parameter = _read_own(name, settings) if own else _read(name)
        if parameter:
            sites.setdefault(path, {})[parameter] = shape
        elif not _is_head(path, settings):
            found.append(("E_WEIGHTS", f"{name}: no part of a LoRA, and in no module of modules_to_save"))
    if not sites:
        found.append(("E_WEIGHTS", "no LoRA tensor in the file"))
    for path, shapes in sites.items():
        found.extend(_of_site(path, shapes, settings))
    return found


def _read(name: str) -> tuple[str, str]:
    """(module, parameter) of a LoRA tensor; (name without prefix, "") of any other."""
    bare = name.removeprefix(PREFIX)
    if bare == name:
        return name, ""
    for ending, parameter in KEYS.items():
        if bare.endswith(f".{ending}"):
            return bare.removesuffix(f".{ending}"), parameter
    return bare, ""


def _read_own(name: str, settings: LoraSettings) -> tuple[str, str]:
    """As `_read`, in hubcli's own format, where a head's bias ends like a site's."""
    path, _, parameter = name.rpartition(".")
    return (path, parameter) if parameter in KEYS.values() and not _is_head(name, settings) else (name, "")


def _is_head(path: str, settings: LoraSettings) -> bool:
    parts = path.split(".")
    heads = settings.targets.skip
    ends = (".".join(parts[:i]) for i in range(1, len(parts)))
    return any(end.endswith(head) for end in ends for head in heads) or path.endswith("base_layer.weight")


def _of_site(path: str, shapes: dict[str, tuple[int, ...]], settings: LoraSettings) -> Iterator[Problem]:
    if not settings.all_linear and not settings.targets.match(path):
        yield "E_WEIGHTS", f"{path}: has LoRA tensors, but target_modules doesn't name it"
    pair = next((pair for pair in PAIRS if pair[0] in shapes or pair[1] in shapes), None)
    if pair is None or any(half not in shapes for half in pair):
        yield "E_WEIGHTS", f"{path}: expected both A and B, found {', '.join(sorted(shapes))}"
        return
    rank = settings.rank(path)
    for half, axis in zip(pair, (0, 1), strict=True):
        shape = shapes[half]
        if len(shape) < 2:
            yield "E_WEIGHTS", f"{path}.{half}: expected a matrix, found shape {shape}"
        elif shape[axis] != rank:
            yield "E_RANK", f"{path}.{half}: expected rank {rank} by the config, found shape {shape}"
    for parameter, wanted in (("magnitude", settings.dora), ("lora_bias", settings.lora_bias)):
        if wanted is not (parameter in shapes):
            yield "E_WEIGHTS", f"{path}: {parameter} is {'missing' if wanted else 'there, but not in the config'}"
    if "bias" in shapes and not settings.base_bias:
        yield "E_WEIGHTS", f"{path}: base_layer.bias is there, but bias is not lora_only in the config"
