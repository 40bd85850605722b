"""What a method gets and gives when several of its adapters become one. Importing this brings no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hubcli.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from hubcli.method import Site

EXACT, SVD = "exact", "svd"
PRUNED = ("ties", "dare_linear", "dare_ties", "magnitude_prune")
HOWS = (EXACT, SVD, *(how for kind in PRUNED for how in (kind, f"{kind}_svd")))
SIGNS = ("total", "frequency")


@dataclass(frozen=True, slots=True)
class MergePart:
    """One adapter of a merge: what it adds counts `weight` times. `sites` are its tensors by site, never to be written to."""

    name: str
    weight: float
    config: Mapping[str, Any]
    settings: Any
    sites: Mapping[Site, Mapping[str, Tensor]]

    @staticmethod
    def together(parts: Sequence[MergePart]) -> list[MergePart]:
        """One part a name: where deltas add up, what stands in a composition twice counts with the sum of its weights."""
        weights: dict[str, float] = {}
        for part in parts:
            weights[part.name] = weights.get(part.name, 0.0) + part.weight
        return [replace(next(p for p in parts if p.name == name), weight=weight) for name, weight in weights.items()]


def _silent(done: int, of: int) -> None:
    del done, of


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """How to merge.

    `how` is one of `HOWS`. `rank` and `energy` say how much an SVD keeps: at most so many ranks a site, or the fewest whose
    squares make up this share. `density` is the share of numbers that pruning keeps, `majority_sign` how TIES counts votes.
    `seed` starts torch's random numbers, which the core has done before a method is asked.
    `stacked`: a `Stack` has several children, so each must see what came before. `averaged`: an `Average` has several.
    `replaced` are the modules that the merged adapter's heads replace, as a config's `modules_to_save` names them.
    `tick(done, of)` is to be called after each of many steps.
    """

    how: str = EXACT
    rank: int | None = None
    energy: float | None = None
    density: float | None = None
    majority_sign: str = SIGNS[0]
    seed: int = 0
    stacked: bool = False
    averaged: bool = False
    replaced: tuple[str, ...] = ()
    tick: Callable[[int, int], None] = field(default=_silent, compare=False)

    def given(self) -> dict[str, Any]:
        """The numbers that `how` goes by."""
        meant = {
            "rank": self.rank,
            "energy": self.energy,
            "density": self.density,
            "majority_sign": self.majority_sign if "ties" in self.how else None,
            "seed": self.seed if self.how.startswith("dare") else None,
        }
        return {name: value for name, value in meant.items() if value is not None}

    def only(self, hows: Sequence[str], method: str) -> None:
        """Refuse a `how` that a method doesn't know.

        Raises:
            UnsupportedError: names those that it does.
        """
        if self.how not in hows:
            raise UnsupportedError(
                f"method '{method}' can't be merged by {self.how}", hint=f"it can be merged by {', '.join(hows)}"
            )


def options_of(
    how: str | None,
    *,
    rank: int | None = None,
    energy: float | None = None,
    density: float | None = None,
    majority_sign: str | None = None,
    seed: int | None = None,
    **unknown: Any,
) -> MergeOptions:
    """What a person asked for, checked: nothing is taken by silence that `how` needs, nothing ignored that it doesn't.

    Raises:
        UsageError: names the option.
    """
    if unknown:
        known = "rank, energy, density, majority_sign, seed"
        raise UsageError(f"merge: {next(iter(unknown))} is no option", hint=f"there are {known}")
    how = EXACT if how is None else how
    if how not in HOWS:
        import difflib

        close = difflib.get_close_matches(str(how), HOWS, 1)
        hint = f"did you mean '{close[0]}'?" if close else f"one of {', '.join(HOWS)}"
        raise UsageError(f"how: {how!r:.60} is no way to merge", hint=hint)
    cuts = how.endswith(SVD)
    prunes = how.removesuffix(f"_{SVD}") in PRUNED
    for name, value, meant, needed in (
        ("rank", rank, cuts, False),
        ("energy", energy, cuts, False),
        ("density", density, prunes, True),
        ("majority_sign", majority_sign, "ties" in how, False),
        ("seed", seed, how.startswith("dare"), False),
    ):
        if value is not None and not meant:
            raise UsageError(f"{name}: {value!r:.60} means nothing to {how}")
        if value is None and meant and needed:
            raise UsageError(f"{name}: {how} needs it: the share of numbers that are kept, e.g. 0.5")
    if cuts and rank is None and energy is None:
        raise UsageError(f"rank, energy: {how} needs one of them", hint="rank=16, or energy=0.95 of the squares")
    if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int) or rank < 1):
        raise UsageError(f"rank: expected a whole number from 1, found {rank!r:.60}")
    for name, share in (("energy", energy), ("density", density)):
        if share is not None and (isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1):
            raise UsageError(f"{name}: expected a share above 0 and up to 1, found {share!r:.60}")
    if majority_sign not in (None, *SIGNS):
        raise UsageError(f"majority_sign: expected one of {', '.join(SIGNS)}, found {majority_sign!r:.60}")
    return MergeOptions(how, rank, energy, density, majority_sign or SIGNS[0], 0 if seed is None else seed)


@dataclass(slots=True)
class Merged:
    """One adapter in place of several: its config, and its tensors by site.

    `errors`, where the method measured them: site -> (size of what is wrong, size of what would be exact), as Frobenius norms.
    `ranks`: site -> its rank, or whatever a rank is to the method (a width, a number of tokens).
    """

    config: dict[str, Any]
    sites: dict[Site, dict[str, Tensor]]
    errors: dict[Site, tuple[float, float]] = field(default_factory=dict)
    ranks: dict[Site, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
