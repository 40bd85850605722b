"""Names of compositions in an expression, replaced by their parts, in the versions that they were installed with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from hubcli.api.workspace import Workspace
from hubcli.composition import Expr, Fuse, blocks, leaves, text
from hubcli.compositions import COMPOSITION, expand, renamed
from hubcli.errors import NotFoundError, UsageError
from hubcli.manifest import Installed
from hubcli.progress import for_terminal
from hubcli.refs import parse_ref
from hubcli.versions import Range

if TYPE_CHECKING:
    from hubcli.adapted import Adapted

Pins = dict[str, tuple[str, str]]


def expanded(expr: Expr, workspace: Workspace, find: Callable[[str], Installed]) -> tuple[Expr, dict[str, Installed]]:
    """The expression without names of compositions, and the adapter behind each of its leaves, theirs first; the fusions
    that compositions name are among them.

    Args:
        expr: leaves are refs.
        workspace: where the parts of compositions are.
        find: the adapter or composition behind a ref; it may install it.

    Raises:
        NotFoundError: E_CONFLICT, two versions of one name would have to be in one composition; both are named.
        HubcliError: as `find`; a composition that expands to too much.
    """
    items = {ref: find(ref) for ref in leaves(expr)}
    composed = {ref: item for ref, item in items.items() if item.record.kind == COMPOSITION}
    if not composed:
        return expr, items
    pins: Pins = {}
    found: dict[str, Installed] = {}
    trees = {ref: _tree(item, workspace, pins, found) for ref, item in composed.items()}
    for ref in items.keys() - composed.keys():
        trees[ref] = _pinned(ref, items[ref], pins)
    whole = renamed(expr, lambda ref: trees.get(ref, ref))
    return whole, found | {ref: items[ref] for ref in leaves(whole) if ref not in found}


def _tree(item: Installed, workspace: Workspace, pins: Pins, found: dict[str, Installed]) -> Expr:
    """What a composition stands for; its adapters go into `pins` and `found`."""
    by = f"{item.record.name} {item.record.version}"

    def part_of(name: str) -> object:
        part = workspace.part(item.record, name, for_terminal())
        version = part.record.version
        if part.record.kind != COMPOSITION:
            other, first = pins.setdefault(name, (version, by))
            if other != version:
                raise _two_versions(name, (other, first), (version, by))
            found[f"{name}@{version}"] = part
        return part.record

    return expand(item.record, part_of)  # type: ignore[arg-type]


def _pinned(ref: str, item: Installed, pins: Pins) -> str:
    """A ref beside compositions: the version that they have, where the ref allows it."""
    parsed = parse_ref(ref)
    if parsed.kind != "index" or parsed.name not in pins:
        return ref
    version, by = pins[parsed.name]
    if parsed.spec and not Range(parsed.spec).allows(version):
        raise _two_versions(parsed.name, (version, by), (item.record.version, f"'{ref}'"))
    return f"{parsed.name}@{version}"


def _two_versions(name: str, one: tuple[str, str], other: tuple[str, str]) -> NotFoundError:
    message = f"one composition can't have two versions of {name}: {one[0]} for {one[1]}, {other[0]} for {other[1]}"
    return NotFoundError(
        message, hint="'hubcli upgrade' gives installed compositions the newest parts", id="E_CONFLICT"
    )


def check_head(head: str | None, expr: Expr) -> None:
    """Refuse a choice of a head where there is nothing to choose.

    Raises:
        UsageError: no Fuse in the expression has this child.
    """
    if head is None:
        return
    known = tuple(dict.fromkeys(name for block in blocks(expr) if isinstance(block, Fuse) for name in leaves(block)))
    if not known:
        raise UsageError(
            f"head='{head}': it names a child of a Fuse, and there is none in {text(expr)}", hint="head=None"
        )
    if head not in known:
        raise UsageError(f"head='{head}': expected a child of a Fuse: {', '.join(known)}")


def speaking(head: str | None, adapted: Adapted, called: Mapping[str, str]) -> str | None:
    """The name under which the child whose head was chosen is loaded.

    Raises:
        UsageError: it has no head.
    """
    if head is None:
        return None
    if not adapted.adapters[called[head]].heads:
        raise UsageError(f"head='{head}': this adapter has no head of its own", hint="name a child that has one")
    return called[head]


def check_tokenizer(adapted: Adapted) -> None:
    """Refuse what is active where no one tokenizer can read a text for it.

    Raises:
        UnsupportedError: two adapters that read texts differently; both are named.
    """
    from hubcli.own_tokenizers import speaking

    speaking(adapted)
