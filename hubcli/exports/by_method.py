"""Files that hold adapters alone, in a format that their method writes: the composition reduced to one leaf a site."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hubcli.errors import UnsupportedError
from hubcli.exports import Json, Wish, agree, base_id
from hubcli.method import Leaf, Site
from hubcli.plan import Irreducible, Program, reduced

if TYPE_CHECKING:
    from hubcli.adapted import Adapted
    from hubcli.adapter import Adapter

# per dtype of the file, the largest difference allowed, relative to the largest number (at least 1) in the change
ALLOWED = {"float32": 1e-6, "float16": 5e-3, "bfloat16": 4e-2}


def write(handle: Adapted, wish: Wish, file: Path) -> Json:
    """Have the method write what is active; the report's part on it.

    Raises:
        UnsupportedError: another method, a head, a composition that is no single adapter, or what the method refuses.
        AdapterError: the file, read back, says something else.
    """
    dtype = wish.dtype or "float32"
    if dtype not in ALLOWED:
        raise UnsupportedError(f"dtype '{dtype}' for {wish.to}: expected {', '.join(ALLOWED)}")
    program = handle.engine.routing.program(False)
    used = [handle.engine.adapters[name] for name in program.names]
    writer = _writer(used, wish.to, str(program))
    leaves = leaves_of(handle, program, wish.to)
    wish.note(f"writing and checking {wish.out.name}")
    notes = {"expression": str(program), "base": base_id(handle)}
    difference, largest, kept = writer(file, handle.model, leaves, notes, dtype)
    agree(difference, ALLOWED[dtype] * max(1.0, largest), f"the change in {wish.out.name}, read back,")
    return {
        "inputs": [],
        "outputs": [],
        "tensors": len(leaves),
        "difference": difference,
        "checked": [],
        "opset": None,
        **kept,
    }


def _writer(used: list[Adapter], to: str, what: str) -> Any:
    """The function that writes what all these adapters' methods agree on."""
    if not used:
        raise UnsupportedError(f"{what}: there is no adapter in it to write as {to}")
    for adapter in used:
        if to not in adapter.method.exports:
            raise UnsupportedError(
                f"'{adapter.name}' is a {adapter.method.name}, which can't be written as {to}",
                hint="pt2 holds any method",
            )
        heads = [*adapter.heads, *([adapter.added.kind] if adapter.added is not None else [])]
        if heads:
            raise UnsupportedError(f"'{adapter.name}' has a head ({', '.join(heads)}), which {to} can't hold")
        if adapter.method.shift(adapter.settings):
            raise UnsupportedError(f"'{adapter.name}' moves positions, which {to} can't say")
    module, _, function = used[0].method.exports[to].partition(":")
    return getattr(import_module(module), function)


def leaves_of(handle: Adapted, program: Program, to: str) -> dict[Site, Leaf]:
    """One leaf a site, from the adapters' own tensors, in float32 at least, on the CPU: the base's dtype does not matter.

    Raises:
        UnsupportedError: something that is no single leaf.
    """
    if program.rows is not None:
        raise UnsupportedError(f"{program}: rows can't be written as {to}: it holds one adapter")
    engine = handle.engine
    leaves: dict[Site, Leaf] = {}
    for live in engine.live:
        found = {
            name: _leaf(adapter, live.site, live.module)
            for name in program.names
            if live.site in (adapter := engine.adapters[name]).sites
        }
        try:
            leaf = reduced(program.expr, found)
        except Irreducible:
            raise UnsupportedError(
                f"{program} is no single adapter at {live.site.path}, as {to} needs it",
                hint="pt2 holds any composition",
            ) from None
        if leaf is not None:
            leaves[live.site] = leaf
    return leaves


def _leaf(adapter: Adapter, site: Site, module: nn.Module) -> Leaf:
    """One adapter at one site; of a base without weights it can't be told what depends on them.

    Raises:
        UnsupportedError: it does.
    """

    def settled(tensor: Tensor) -> Tensor:
        return tensor.detach().to("cpu", torch.promote_types(tensor.dtype, torch.float32))

    tensors = {name: settled(tensor) for name, tensor in adapter.sites[site].items()}
    try:
        return adapter.method.leaf(site, module, adapter.settings, tensors, False)
    except RuntimeError as error:
        if not any(parameter.is_meta for parameter in module.parameters()):
            raise
        raise UnsupportedError(
            f"'{adapter.name}' at {site.path}: what it adds depends on the base's weights, so it is no adapter by itself"
        ) from error
