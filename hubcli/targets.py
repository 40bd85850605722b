"""Which modules `target_modules` and its relatives name: peft's rules, on names alone, in bounded time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from hubcli.errors import ConfigKeyError
from hubcli.patterns import compile_pattern

T = TypeVar("T")
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,300}\Z")


@dataclass(frozen=True, slots=True)
class Targets:
    """What to adapt: a pattern for the whole name, or names and name endings.

    `exclude` likewise; `layers` (None: all) are layer indices, found after one of `layers_pattern`, else after the first
    numbered segment; `skip` are modules that are replaced whole, with all that is in them. Hashable: a cache's key.
    """

    include: str | tuple[str, ...]
    exclude: str | tuple[str, ...] = ()
    layers: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def validate(self) -> None:
        """Check everything that can be checked without names.

        Raises:
            ConfigKeyError: a pattern that is refused, a name with unexpected characters, layers beside a pattern.
        """
        _check(self.include, "target_modules")
        _check(self.exclude, "exclude_modules")
        _check(self.layers_pattern, "layers_pattern")
        _check(self.skip, "modules_to_save")
        if isinstance(self.include, str) and (self.layers is not None or self.layers_pattern):
            raise ConfigKeyError("layers_to_transform: not possible when target_modules is a pattern")
        if self.layers_pattern and self.layers is None:
            raise ConfigKeyError("layers_pattern: needs layers_to_transform beside it")

    def match(self, name: str) -> bool:
        """Whether the module of this name is a target."""
        if _named(self.exclude, name, "exclude_modules"):
            return False
        dotted = f".{name}."
        if any(f".{module}." in dotted for module in self.skip):
            return False
        if not _named(self.include, name, "target_modules"):
            return False
        if isinstance(self.include, str) or name in self.include or not self.layers:
            return True
        return layer_index(name, self.layers_pattern) in self.layers

    def among(self, names: Iterable[str]) -> tuple[str, ...]:
        """The names that are targets, in order."""
        return tuple(name for name in names if self.match(name))

    def idle(self, names: Iterable[str]) -> tuple[str, ...]:
        """The names listed in `include` that name none of these modules."""
        known = list(names)
        listed = () if isinstance(self.include, str) else self.include
        return tuple(one for one in listed if not any(_named((one,), name, "target_modules") for name in known))


def meant(name: str, known: Iterable[str]) -> str:
    """`, did you mean …?` where a name is nearly one that is known, else nothing: the end of a message."""
    import difflib

    close = difflib.get_close_matches(name, list(known), 1)
    return f", did you mean '{close[0]}'?" if close else ""


def _check(names: str | tuple[str, ...], key: str) -> None:
    if isinstance(names, str):
        compile_pattern(names, key)
        return
    for name in names:
        if not _PLAIN.match(name):
            raise ConfigKeyError(f"{key}: {name[:80]!r} is no module name")


def _named(names: str | tuple[str, ...], name: str, key: str) -> bool:
    if isinstance(names, str):
        return compile_pattern(names, key)(name)
    return any(name == known or name.endswith(f".{known}") for known in names)


def layer_index(name: str, patterns: Iterable[str] = ()) -> int | None:
    """The index of the layer a module stands in: the first number after a segment (of `patterns`, where given).

    Without patterns the number's own segment must have two segments before it, as in peft: `h.0.attn` alone has none.
    """
    parts = name.split(".")
    numbered = [at for at, part in enumerate(parts[:-1]) if at and part.isdecimal()]
    known = tuple(patterns)
    if not known:
        return next((int(parts[at]) for at in numbered if at >= 2), None)
    for pattern in known:
        for at in numbered:
            if parts[at - 1] == pattern:
                return int(parts[at])
    return None


def pattern_value(patterns: tuple[tuple[str, T], ...], name: str, default: T) -> T:
    """The value of the first key that fits the end of `name` (`rank_pattern`, `alpha_pattern`), else `default`."""
    for key, value in patterns:
        if compile_pattern(rf"(.*\.)?({key})", "rank_pattern")(name):
            return value
    return default
