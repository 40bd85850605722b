"""What is no weight, as ordinary modules: the tensors are buffers of child modules, and no hook is left.

A module around which something acts becomes an instance of a subclass of its own class, under the same name, whose call does
what the hooks did; its own `forward` stays what it was. The child module that holds what acts is called `hubcli_fused`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hubcli.composition import Block, Expr, Fuse
from hubcli.evaluate import Given, Tapped, delta, picked
from hubcli.method import Leaf
from hubcli.plan import Irreducible, reduced
from hubcli.positions import Shift
from hubcli.sites import LOCAL

CHILD = "hubcli_fused"
_taps = itertools.count(1)
_classes: dict[type[nn.Module], type[nn.Module]] = {}


class Held(nn.Module):
    """One leaf's tensors as buffers. The leaf reads them here, so that it follows every move and copy."""

    def __init__(self, leaf: Leaf):
        super().__init__()
        for name, tensor in leaf.tensors.items():
            self.register_buffer(name, tensor.detach().clone())
        self.leaf = Leaf(leaf.method, leaf.form, self._buffers, leaf.constants)  # type: ignore[arg-type]
        self.leaf.tap = leaf.tap


class Ordinary(nn.Module):
    """What a composition adds at one port of a module."""

    def __init__(self, expr: Expr, found: Mapping[str, Leaf]):
        super().__init__()
        kept: dict[str, Leaf] = {}
        self.expr = collapsed(expr, found, kept)
        held = {name: Held(leaf) for name, leaf in kept.items()}
        for i, one in enumerate(held.values()):
            self.add_module(f"leaf{i}", one)
        self.leaves = {name: one.leaf for name, one in held.items()}

    def forward(self, module: nn.Module, x: Given, value: Tensor) -> Tensor:
        """The new value."""
        if isinstance(self.expr, str):
            leaf = self.leaves[self.expr]
            return leaf.method.apply(leaf, module, picked(x, leaf), value)
        added = delta(self.expr, self.leaves, module, x, value)
        return value if added is None else value + added


def collapsed(expr: Expr, found: Mapping[str, Leaf], kept: dict[str, Leaf]) -> Expr:
    """The same tree with each part that is one leaf as that leaf, which goes into `kept` under the text of the part."""
    try:
        leaf = reduced(expr, found)
    except Irreducible:
        assert isinstance(expr, Block)
        if isinstance(expr, Fuse) and expr.by is not None and expr.by in found:
            kept[expr.by] = found[expr.by]
        return expr.over([collapsed(child, found, kept) for child in expr.children])
    if leaf is None:
        return None
    kept[str(expr)] = leaf
    return str(expr)


@dataclass(slots=True, eq=False)
class HeadAsOwn:
    """Stands for a replaced module's site in the steps of `hubcli.heads`: its own forward and its path."""

    own: Callable[..., Any]
    site: Any


class Head(nn.Module):
    """Several adapters' modules in place of one. `step` runs them; they are children here."""

    def __init__(self, step: Any, site: Any, parts: list[nn.Module]):
        super().__init__()
        self.step, self.site, self.parts = step, site, nn.ModuleList(parts)

    def forward(self, own: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The head's output."""
        return self.step(HeadAsOwn(own, self.site), args, kwargs)


class Around(nn.Module):
    """All that acts around one module's forward: at its input, its output, in its place, on its positions."""

    def __init__(self) -> None:
        super().__init__()
        self.input: Ordinary | None = None
        self.output: Ordinary | None = None
        self.head: Head | None = None
        self.shift: Shift | None = None  # of the positions that go into the model
        self.place: Shift | None = None  # of those that this module embeds
        self.kept_for: list[int] = []  # others read what goes in here
        self.taps: dict[str, dict[str, int]] = {"input": {}, "output": {}}

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The inputs as the module gets them."""
        if self.shift is not None:
            args, kwargs = self.shift(args, kwargs)
        for number in self.kept_for:
            LOCAL.tapped[-number, 0, CHILD] = _first(args, kwargs)
        if self.input is None:
            return args, kwargs
        value = _first(args, kwargs)
        new = self.input(module, self._seen("input", value), value)
        if args:
            return (new, *args[1:]), kwargs
        return args, {name: new if given is value else given for name, given in kwargs.items()}

    def after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        """The output as others get it."""
        if self.place is not None:
            out = self.place.within(module, args, kwargs, out)
        if self.output is None:
            return out
        x = self._seen("output", _first(args, kwargs))
        if isinstance(out, tuple):
            return (self.output(module, x, out[0]), *out[1:])
        return self.output(module, x, out)

    def listen(self, port: str, tap: str, other: Around) -> None:
        """Have another module keep its input for what acts at a port here."""
        number = next(_taps)
        self.taps[port][tap] = number
        other.kept_for.append(number)

    def _seen(self, port: str, x: Tensor) -> Given:
        if not self.taps[port]:
            return x
        seen = Tapped({None: x})
        for tap, number in self.taps[port].items():
            seen[tap] = LOCAL.tapped.pop((-number, 0, CHILD))
        return seen


class Called:
    """What a module's class gets in front: the call that goes through its `hubcli_fused`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The module's own call, with what acts around it."""
        module: Any = self
        around: Around = module._modules[CHILD]
        args, kwargs = around.before(module, args, kwargs)
        own: Any = super().__call__  # type: ignore[misc]
        out = own(*args, **kwargs) if around.head is None else around.head(own, args, kwargs)
        return around.after(module, args, kwargs, out)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """By the class it was made from: the made one has no place in a file of code."""
        return _remade, (type(self).__bases__[1],), self.__dict__


def _remade(kind: type[nn.Module]) -> nn.Module:
    made = class_around(kind)
    return made.__new__(made)


def class_around(kind: type[nn.Module]) -> type[nn.Module]:
    """The subclass of a module's class, under its name, that calls what acts around it."""
    if kind not in _classes:
        own = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
        _classes[kind] = type(kind.__name__, (Called, kind), own)
    return _classes[kind]


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else next(iter(kwargs.values()))
