"""Prefixes as ordinary modules: what an attention gets beside its own keys and values, as buffers of a child module."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from hubcli.attention import AttentionSite
from hubcli.extras import Extra
from hubcli.prefixes import Fixed, Node


class KeysValues(nn.Module):
    """Frozen keys and values, the same for every row and query."""

    def __init__(self, extra: Extra):
        super().__init__()
        for name in ("key", "value", "keep", "mass"):
            tensor = getattr(extra, name)
            self.register_buffer(name, None if tensor is None else tensor.detach().clone())

    def forward(self, module: nn.Module, rows: int, queries: int) -> Extra:
        """As they are."""
        del module, rows, queries
        return Extra(self.key, self.value, self.keep, self.mass)  # type: ignore[arg-type]


class Parts(nn.Module):
    """Several of them, each seen by some rows or queries."""

    def __init__(self, node: Any):
        super().__init__()
        self.parts = nn.ModuleList()
        nodes = [None if part is None else baked(part) for part in node.nodes]
        self.parts.extend(part for part in nodes if part is not None)
        self.node = replace(node, nodes=nodes)

    def forward(self, module: nn.Module, rows: int, queries: int) -> Extra | None:
        """What these rows and queries get."""
        found: Extra | None = self.node(module, rows, queries)
        return found


def baked(node: Node) -> nn.Module:
    """The module of a node in which nothing trains."""
    return KeysValues(node.extra) if isinstance(node, Fixed) else Parts(node)


class Baked(nn.Module):
    """Takes the place of an attention's site: the attention function finds the keys and values here, and asks no program."""

    def __init__(self, live: AttentionSite, node: Node):
        super().__init__()
        self.site, self.config, self.eager = live.site, live.config, live.eager
        self.added = baked(node)

    def own(self) -> Any:
        """The function that the model's config names; errors as `AttentionSite.own`."""
        return AttentionSite.own(self)  # type: ignore[arg-type]

    def step(self, training: bool) -> nn.Module:
        """What gives the keys and values."""
        del training
        return self.added
