"""What a method gets and gives when several of its adapters become one. Importing this brings no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hubcli.errors import UnsupportedError

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


def _silent(done: int, of: int) -> None:
    del done, of


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """How to merge.

    `how` is one of `HOWS`. `rank` and `energy` say how much an SVD keeps: at most so many ranks a site, or the fewest whose
    squares make up this share. `density` is the share of numbers that pruning keeps, `majority_sign` how TIES counts votes.
    `stacked`: a `Stack` has several children, so each must see what came before. `averaged`: an `Average` has several.
    `replaced` are the modules that the merged adapter's heads replace, as a config's `modules_to_save` names them.
    `tick(done, of)` is to be called after each of many steps.
    """

    how: str = EXACT
    rank: int | None = None
    energy: float | None = None
    density: float | None = None
    majority_sign: str = SIGNS[0]
    stacked: bool = False
    averaged: bool = False
    replaced: tuple[str, ...] = ()
    tick: Callable[[int, int], None] = field(default=_silent, compare=False)

    def only(self, hows: Sequence[str], method: str) -> None:
        """Refuse a `how` that a method doesn't know.

        Raises:
            UnsupportedError: names those that it does.
        """
        if self.how not in hows:
            raise UnsupportedError(
                f"method '{method}' can't be merged by {self.how}", hint=f"it can be merged by {', '.join(hows)}"
            )


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
