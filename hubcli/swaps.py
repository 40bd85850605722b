"""Changes of a model that can be taken back to the bit: each puts something in place and keeps what was there."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hubcli.attention import SITE, AttentionSite
from hubcli.baked import Baked
from hubcli.ordinary import CHILD, Around, class_around
from hubcli.residents import HOOKS
from hubcli.sites import LiveSite, Tap

Move = Callable[[Tensor], Tensor]


class _Missing:
    """Stands for an attribute that was not there; a class, so that a copy is itself."""


class Swap(Protocol):
    """One change."""

    def put(self) -> None:
        """Put the new in place."""

    def back(self) -> None:
        """Put the old back: the same objects."""

    def move(self, function: Move) -> None:
        """The model is moved or cast by `function`: what is kept out of it follows."""


class Still:
    """What holds no tensors."""

    def move(self, function: Move) -> None:
        """Nothing to move."""
        del function


@dataclass(eq=False)
class ParameterSwap:
    """One parameter of a module."""

    module: nn.Module
    name: str
    new: nn.Parameter | None
    old: nn.Parameter | None = None

    def put(self) -> None:
        """Keep the old Parameter itself: no copy is made."""
        self.old, self.new = self.module._parameters.get(self.name), self.new
        self.module._parameters[self.name], self.new = self.new, None

    def back(self) -> None:
        """The same Parameter again."""
        self.module._parameters[self.name], self.old = self.old, None

    def move(self, function: Move) -> None:
        """As `nn.Module._apply` moves a parameter: in place where torch allows it, so that it stays the same object."""
        if self.old is None:
            return
        with torch.no_grad():
            moved = function(self.old)
        if torch._has_compatible_shallow_copy_type(self.old, moved):
            self.old.data = moved
        else:
            self.old = nn.Parameter(moved, self.old.requires_grad)


@dataclass(eq=False)
class ChildSwap:
    """One module in its parent, hooks that are not ours included."""

    parent: nn.Module
    name: str
    new: nn.Module
    old: nn.Module | None = None

    def put(self) -> None:
        """The new module runs the same hooks."""
        self.old = self.parent._modules[self.name]
        assert self.old is not None
        for hooks in HOOKS:
            if hooks in self.old.__dict__:
                self.new.__dict__[hooks] = self.old.__dict__[hooks]
        self.parent._modules[self.name] = self.new

    def back(self) -> None:
        """The same module again."""
        self.parent._modules[self.name] = self.old

    def move(self, function: Move) -> None:
        """The module that stands aside moves too."""
        if self.old is not None:
            self.old._apply(function)  # type: ignore[no-untyped-call]


@dataclass(eq=False)
class AroundSwap(Still):
    """A module's class: the call goes through what acts around it."""

    module: nn.Module
    around: Around

    def put(self) -> None:
        """The class under the same name."""
        self.around.train(self.module.training)
        self.module.__class__ = class_around(type(self.module))
        self.module._modules[CHILD] = self.around

    def back(self) -> None:
        """The class it had."""
        del self.module._modules[CHILD]
        self.module.__class__ = type(self.module).__bases__[1]


@dataclass(eq=False)
class SiteSwap(Still):
    """A site that is no hook: a replaced module, an attention. It is detached, and attached again."""

    live: LiveSite
    baked: Baked | None = None

    def put(self) -> None:
        """Detach; under a prefix the attention keeps the config that names our function, and asks the module instead."""
        if self.baked is None:
            self.live.close()
            return
        delattr(self.live.module, SITE)
        self.live.module.add_module(SITE, self.baked)

    def back(self) -> None:
        """Attach."""
        if self.baked is None:
            self.live.attach()
            return
        assert isinstance(self.live, AttentionSite)
        del self.live.module._modules[SITE]
        setattr(self.live.module, SITE, self.live)


@dataclass(eq=False)
class HookSwap(Still):
    """A module's hooks without those of some owners; taken back, they stand in the order they stood in."""

    module: nn.Module
    owners: Iterable[Any]
    taken: dict[str, dict[int, Any]] = field(default_factory=dict)
    ours: set[int] = field(default_factory=set)

    def put(self) -> None:
        """Take ours out, by number."""
        owners = {id(owner) for owner in self.owners}
        for name in ("_forward_hooks", "_forward_pre_hooks"):
            hooks = self.module.__dict__[name]
            self.ours |= {key for key, hook in hooks.items() if id(_owner(hook)) in owners}
        for name in HOOKS:
            hooks = self.module.__dict__.get(name)
            if hooks and not self.ours.isdisjoint(hooks):
                self.taken[name] = dict(hooks)
                for key in self.ours.intersection(hooks):
                    del hooks[key]

    def back(self) -> None:
        """Ours between those that are there still, then those that came since."""
        for name, before in self.taken.items():
            hooks = self.module.__dict__[name]
            now = OrderedDict((key, hook) for key, hook in before.items() if key in self.ours or key in hooks)
            now.update(hooks)
            hooks.clear()
            hooks.update(now)


def _owner(hook: Any) -> Any:
    """Whose hook it is: a method's object, a tap's site."""
    return hook.live if isinstance(hook, Tap) else getattr(hook, "__self__", hook)


@dataclass(eq=False)
class AttributeSwap(Still):
    """An attribute, of a config for example."""

    owner: Any
    name: str
    new: Any
    old: Any = _Missing

    def put(self) -> None:
        """Keep what it was."""
        self.old = getattr(self.owner, self.name, _Missing)
        setattr(self.owner, self.name, self.new)

    def back(self) -> None:
        """What it was."""
        if self.old is _Missing:
            delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, self.old)
