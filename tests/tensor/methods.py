"""One line a method: the config that the tests of training, dtypes and frameworks give it, and on which tiny models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import nn

from hubcli.adapted import Adapted
from hubcli.plugins import plugins

from .frozen import frozen
from .models import model_of


class Tried(NamedTuple):
    """`config` for bert."""

    config: dict[str, Any]


KNOWN = {
    "lora": Tried({"r": 2, "target_modules": ["query", "value"]}),
    "bottleneck": Tried({"mh_adapter": True, "output_adapter": True, "reduction_factor": 4, "non_linearity": "gelu"}),
    "bitfit": Tried({}),
    "prefix": Tried({"prefix_length": 3}),
}
METHODS = {
    name: tried for name, tried in KNOWN.items() if name in {plugin.name for plugin in plugins().of_kind("method")}
}
# (method, block of test_training_gradients) -> what the refusal says
REFUSED = {("prefix", "fuse"): "port 'attention'"}


def noisy(method: str, names: Sequence[str], base: nn.Module | None = None) -> Adapted:
    """Frozen adapters of one method, without heads, none of whose numbers is at its start; bert in float64 unless given."""
    given = [(method, METHODS[method].config)] * len(names)
    return frozen(model_of("bert") if base is None else base, *given, names=names)
