"""The API a PEFT method is written against: one class, `Method`. Importing this brings no torch.

A plugin's own modules import from here, `hubcli.hookspecs`, `hubcli.errors` and `hubcli.testing` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from hubcli.errors import UnsupportedError
from hubcli.merge_types import Merged, MergeOptions, MergePart
from hubcli.targets import Targets, layer_index, meant, pattern_value

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hubcli.families import Structure

__all__ = [
    "HubcliWarning",
    "Leaf",
    "MergeOptions",
    "MergePart",
    "Merged",
    "Method",
    "Site",
    "Targets",
    "layer_index",
    "meant",
    "pattern_value",
]

S = TypeVar("S")
ATTENTION = "attention"  # the port of keys and values


class HubcliWarning(UserWarning):
    """Something a person should know that stops nothing."""


@dataclass(frozen=True, slots=True)
class Site:
    """A place in a model where a delta is added.

    `path` is the module's name in the model; `port` is one of "input", "output", "attention"; `tap` optionally names a second
    module that runs before, whose input is then the delta's `x`. The place itself is path and port alone: what several
    adapters add there is one value's composition, whichever taps they read.
    """

    path: str
    port: str = "output"
    tap: str | None = field(default=None, compare=False)


class Leaf:
    """One adapter at one site: what `delta` reads.

    `tensors` by parameter name, on the site's device and in its compute dtype (or fp32 while they train); `form` says which
    of the method's formulas applies; `constants` are plain numbers (a value that differs between adapters belongs into a
    0-d tensor: a compiled model would be recompiled for another constant). `tap` is the site's, set by the core; `made_of` are
    the leaves that a merged or banked one was made of; `ready` is whatever the method itself keeps for its fastest way.
    """

    __slots__ = ("__weakref__", "constants", "form", "made_of", "method", "ready", "tap", "tensors", "trainable")

    def __init__(
        self,
        method: Method[Any],
        form: str,
        tensors: dict[str, Tensor],
        constants: dict[str, float] | None = None,
        trainable: bool = False,
    ):
        self.method, self.form, self.tensors = method, form, tensors
        self.constants, self.trainable = constants or {}, trainable
        self.tap: str | None = None
        self.made_of: tuple[Leaf | None, ...] = ()
        self.ready: Any = None


class Groups:
    """The rows of a batch as equal groups: as they stand, or moved to `places`, from where `back` brings them home.

    Short groups are filled up with rows that are not brought home. `rows` is each row's group, where rows have to move.
    """

    __slots__ = ("back", "count", "places", "rows")

    def __init__(
        self, count: int, places: Tensor | None = None, back: Tensor | None = None, rows: Tensor | None = None
    ):
        self.count, self.places, self.back, self.rows = count, places, back, rows

    def split(self, tensor: Tensor) -> Tensor:
        """(batch, …) as (groups, rows of each, …); a view where nothing has to move."""
        if self.places is not None:
            tensor = tensor.index_select(0, self.places)
        return tensor.reshape(self.count, -1, *tensor.shape[1:])

    def home(self, tensor: Tensor) -> Tensor:
        """(groups, rows of each, …) as (batch, …)."""
        tensor = tensor.reshape(-1, *tensor.shape[2:])
        return tensor if self.back is None else tensor.index_select(0, self.back)


class Method(Generic[S]):
    """A PEFT method. `S` is the type of its settings: its config, read and checked.

    A subclass writes `configure`, `sites`, `shapes`, `fresh`, `leaf` and `delta`; the rest has defaults that are right and
    that it overrides where it knows a faster way.
    """

    #: The method's name: the name of its entry point.
    name: ClassVar[str]
    #: How a base has to be quantised for a fresh adapter of this method ("nf4"); None: it need not be.
    quantize: ClassVar[str | None] = None
    #: Per foreign format, this method's parameter names and how a key of that format ends:
    #: `{"peft": {"lora_A": "lora_A.weight"}}`.
    formats: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    #: Files of other runtimes that hold this method's adapters alone: format -> "module:function" that writes one, imported
    #: when it is asked for. Called as `function(file, model, leaves, notes, dtype)`: one frozen leaf a site, `notes` with
    #: `expression` and `base` or None; it returns (the largest difference between the changes of weights that the file, read
    #: back, makes and the leaves make, the largest number in such a change, further keys of the report).
    exports: ClassVar[Mapping[str, str]] = {}

    def configure(self, config: Mapping[str, Any]) -> S:
        """Read a config.

        Raises:
            ConfigKeyError: a key or value that is not supported, by name.
        """
        raise NotImplementedError

    def defaults(self, structure: Structure, config: Mapping[str, Any]) -> dict[str, Any]:
        """Complete the config of a fresh adapter from the model, e.g. its family's default targets."""
        del structure
        return dict(config)

    def sites(self, structure: Structure, settings: S) -> Sequence[Site]:
        """Every site of this model that these settings name, in the order of its modules."""
        raise NotImplementedError

    def claims(self, path: str, settings: S) -> bool:
        """Whether these settings name a module of this name; asked for each module that a file has tensors for."""
        raise NotImplementedError

    def filed(self, structure: Structure, settings: S, format: str) -> Mapping[str, Site] | None:
        """Where a file of this format keeps each site's tensors: module path, relative to the bare model -> site.

        None, the default: under the path of the site's own module.
        """
        del structure, settings, format
        return None

    def translated(
        self, format: str, config: dict[str, Any], tensors: dict[str, dict[str, Tensor]]
    ) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """The (config, tensors) of another library's file as this method's own; by default they are the same.

        Beside its own keys the config has `version`: what the library wrote of itself, or None.

        Raises:
            ConfigKeyError: a key that can't be honoured, by name.
        """
        del format
        return config, tensors

    def spread(
        self, structure: Structure, settings: S, format: str, tensors: dict[str, dict[str, Tensor]]
    ) -> dict[Site, dict[str, Tensor]] | None:
        """The tensors of a file that keeps them for the adapter as a whole, by this model's sites; None, the default: no.

        A key that is a table's ending and no more stands under the module path "".

        Raises:
            BaseMismatchError, WeightsError: they don't fit the model.
        """
        del structure, settings, format, tensors
        return None

    def gathered(
        self,
        structure: Structure,
        settings: S,
        format: str,
        config: Mapping[str, Any],
        sites: Mapping[Site, Mapping[str, Tensor]],
    ) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """The way back: (config, module path → parameter → tensor) as a file of this format keeps them.

        Raises:
            UnsupportedError: the format can't say what this adapter does.
        """
        del structure, settings, format
        return dict(config), {site.path: dict(tensors) for site, tensors in sites.items()}

    def shares(self, site: Site, settings: S) -> Mapping[str, str]:
        """Parameters of this site that other sites have too: parameter → label; one tensor a parameter and label."""
        del site, settings
        return {}

    def shift(self, settings: S) -> int:
        """By how many positions the tokens move up under this adapter (peft's prefixes count as tokens before them)."""
        del settings
        return 0

    def shapes(self, site: Site, module: nn.Module, settings: S) -> dict[str, tuple[int, ...]]:
        """The parameters of one site and their shapes.

        Raises:
            UnsupportedSiteError: this kind of module can't carry the method's delta.
        """
        raise NotImplementedError

    def fresh(self, site: Site, module: nn.Module, settings: S) -> dict[str, Tensor]:
        """New tensors for one site, of the shapes that `shapes` gives, whose delta is zero."""
        raise NotImplementedError

    def leaf(self, site: Site, module: nn.Module, settings: S, tensors: dict[str, Tensor], trainable: bool) -> Leaf:
        """The leaf of one site from its tensors, which have the site's device and dtype."""
        raise NotImplementedError

    def delta(self, leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor) -> Tensor:
        """What the adapter adds to `value`: pure, of the shape of `value`.

        `value` is the module's output, or at the port "input" its first input. `x` is the first input of the module (or of
        the tap), with the batch on axis 0; `value` has (batch, sequence, width) at most sites, (batch, width) in poolers and
        heads.
        """
        raise NotImplementedError

    def keys_values(self, leaf: Leaf, module: nn.Module) -> tuple[Tensor, Tensor]:
        """At the port "attention", in place of `delta`: the keys and values it adds, each (kv heads, length, head size).

        A leaf's constant `log_mass`, if it has one, is added to the logits of all of them.
        """
        raise NotImplementedError

    def apply(self, leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor) -> Tensor:
        """`value + delta`, as one expression where that is faster."""
        return value + self.delta(leaf, module, x, value)

    def weight_delta(
        self, leaf: Leaf, site: Site, module: nn.Module, weight: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None] | None:
        """What a (frozen) leaf adds to its module's weight and bias, where its delta is a change of these; None: it is none.

        `weight` and `bias` are laid out as the module's own and hold what came before (in float32 or finer, None where there
        is none); both answers are laid out likewise, None for no change. A bias may be made where the module has none.
        """
        del leaf, site, module, weight, bias
        return None

    def fold(
        self, leaf: Leaf, site: Site, module: nn.Module, weight: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None] | None:
        """The new weight and bias, as one expression where that is faster than `weight_delta`; neither is written into."""
        delta = self.weight_delta(leaf, site, module, weight, bias)
        if delta is None:
            return None
        changes = zip((weight, bias), delta, strict=True)
        new_weight, new_bias = (old if add is None else add if old is None else old + add for old, add in changes)
        return new_weight, new_bias

    def merge(self, leaves: Sequence[Leaf], weights: Sequence[float]) -> Leaf | None:
        """One leaf whose delta is the weighted sum of these (frozen, of one form and site), or None if there is none."""
        del leaves, weights
        return None

    def chain(self, leaves: Sequence[Leaf]) -> Leaf | None:
        """One leaf that does what these do one after the other, each seeing what came before, or None."""
        del leaves
        return None

    def bank(self, leaves: Sequence[Leaf | None]) -> Leaf | None:
        """Leaves of one form and site (frozen; None: nothing) as one whose tensors have a leading axis over them, for
        `delta_by_group`; tensors of different sizes padded so that the padding adds nothing. None, the default: there is none.
        """
        del leaves
        return None

    def delta_by_group(self, leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor) -> Tensor:
        """`delta` for groups of rows, each with its own part of a bank; all have the axes of `delta`'s behind (groups, rows)."""
        raise NotImplementedError

    def grouped(self, leaf: Leaf, module: nn.Module, x: Tensor, value: Tensor, groups: Groups) -> Tensor:
        """`value + delta` for a batch whose rows are in groups, as one expression where that is faster."""
        return value + groups.home(self.delta_by_group(leaf, module, groups.split(x), groups.split(value)))

    def merged(self, structure: Structure, parts: Sequence[MergePart], options: MergeOptions) -> Merged:
        """One adapter that adds the weighted sum of what these add: exactly, or as `options.how` says.

        A single part with weight 1 comes here only where `how` is not exact. The core gives the config its `modules_to_save`.

        Raises:
            UnsupportedError: that can't be done; the hint says what can.
        """
        del structure, options
        shown = ", ".join(f"'{part.name}'" for part in parts)
        raise UnsupportedError(
            f"method '{self.name}' does not say how several of its adapters become one: {shown}",
            hint="a composition of them needs no merge",
        )
