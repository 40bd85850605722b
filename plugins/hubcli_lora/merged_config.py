"""The config of a LoRA that was made of several: peft's own words, for any set of modules with any ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hubcli.errors import UnsupportedError
from hubcli.method import MergePart, Targets
from hubcli_lora.settings import LoraSettings, read_settings

if TYPE_CHECKING:
    from hubcli.families import Structure

KEPT = ("task_type", "base_model_name_or_path", "revision", "fan_in_fan_out")


def merged_config(
    structure: Structure, parts: Sequence[MergePart], ranks: Mapping[str, int], replaced: Sequence[str]
) -> dict[str, Any]:
    """A config whose targets are just the modules of `ranks`, each of its rank and with a scale of 1.

    Raises:
        UnsupportedError: no list of names means just these modules.
    """
    common = Counter(ranks.values()).most_common(1)[0][0]
    config: dict[str, Any] = {
        **{key: next((p.config[key] for p in parts if p.config.get(key) is not None), None) for key in KEPT},
        "r": common,
        "lora_alpha": common,
        "lora_dropout": 0.0,
        "use_rslora": False,
        "use_dora": False,
        "lora_bias": any(part.settings.lora_bias for part in parts),
        "bias": "lora_only" if any(part.settings.base_bias for part in parts) else "none",
        "target_modules": _targets(structure, tuple(ranks), tuple(replaced)),
        "modules_to_save": list(replaced) or None,
    }
    for name in (structure.relative, _anchored):
        pattern = _pattern(ranks, common, name)
        made = {**config, "rank_pattern": pattern, "alpha_pattern": dict(pattern)}
        if _says(read_settings(made), ranks):
            return made
    raise UnsupportedError(f"no rank_pattern of peft's says the ranks of these {len(ranks)} modules")


def _targets(structure: Structure, paths: tuple[str, ...], skip: tuple[str, ...]) -> list[str]:
    """The shortest list of names that means these modules and no others: last names, else names in the bare model."""
    for name in (_last, structure.relative, str):
        names = tuple(sorted({name(path) for path in paths}))
        if set(structure.matching(Targets(names, skip=skip))) == set(paths):
            return list(names)
    inside = next((p for p in paths if any(f".{module}." in f".{p}." for module in skip)), paths[0])
    raise UnsupportedError(
        f"{inside} is adapted by one adapter, and replaced (as {', '.join(skip)}) by the head that is kept",
        hint="--head (head=) chooses another head",
    )


def _pattern(ranks: Mapping[str, int], common: int, name: Any) -> dict[str, int]:
    """What differs from the common rank; by a last name where all modules of that name are alike."""
    alike: dict[str, set[int]] = {}
    for path, rank in ranks.items():
        alike.setdefault(_last(path), set()).add(rank)
    return {
        (_last(path) if len(alike[_last(path)]) == 1 else name(path)): rank
        for path, rank in ranks.items()
        if rank != common
    }


def _says(settings: LoraSettings, ranks: Mapping[str, int]) -> bool:
    return all(settings.rank(path) == rank and settings.scale(path) == 1.0 for path, rank in ranks.items())


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _anchored(path: str) -> str:
    return f"^{path}"
