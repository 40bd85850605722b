"""Banks: the leaves of several groups of rows stacked into one, so that a mixed batch takes a few products, not a loop.

A bank is a copy, so it is shared: the same leaves in the same order give the same bank, for as long as a program uses it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias
from weakref import WeakValueDictionary

from hubcli.composition import Expr
from hubcli.method import Leaf
from hubcli.route import Rows

KEPT_ORDERS = 256
WASTE = 4  # how much larger than its leaves a bank may be, by padding

Columns: TypeAlias = list[list[Leaf]]  # for each group what it does, in sequence


class Shelf:
    """The banks in use. `of` makes what is not there."""

    def __init__(self) -> None:
        self.banks: WeakValueDictionary[tuple[int, ...], Leaf] = WeakValueDictionary()
        self.orders: OrderedDict[frozenset[Expr], tuple[Expr, ...]] = OrderedDict()

    def __reduce__(self) -> tuple[type[Shelf], tuple[()]]:
        return Shelf, ()  # a copy of a model makes banks of its own

    def order(self, rows: Rows) -> tuple[Expr, ...]:
        """The order in which these expressions came first, so that the same set of them finds its banks again."""
        order = self.orders.setdefault(frozenset(rows), tuple(dict.fromkeys(rows)))
        if len(self.orders) > KEPT_ORDERS:
            self.orders.popitem(last=False)
        return order

    def of(self, columns: Columns) -> list[Leaf] | None:
        """Leaves with a leading axis of groups that do, one after the other, what the groups do; None: a loop is the way."""
        rows = [_slots(columns, at) for at in range(max(map(len, columns)))]
        slots = [slot for row in rows for slot in row]
        if len(slots) >= sum(map(bool, columns)):
            return None
        banks = []
        for slot in slots:
            bank = self._bank(slot)
            if bank is None:
                return None
            banks.append(bank)
        return banks

    def _bank(self, slot: list[Leaf | None]) -> Leaf | None:
        key = tuple(0 if leaf is None else id(leaf) for leaf in slot)
        bank = self.banks.get(key)
        if bank is None:
            first = next(leaf for leaf in slot if leaf is not None)
            bank = first.method.bank(slot)
            if bank is None or size(bank) > WASTE * sum(size(leaf) for leaf in slot if leaf is not None):
                return None
            bank.tap, bank.made_of = first.tap, tuple(slot)  # kept alive, so that no other leaf gets their ids
            self.banks[key] = bank
        return bank


def _slots(columns: Sequence[list[Leaf]], at: int) -> list[list[Leaf | None]]:
    """What the groups do at one place of their sequences, one list for each kind of leaf, None for groups of other kinds.

    A row is in one group, so the order of the lists makes no difference.
    """
    found: dict[object, list[Leaf | None]] = {}
    for group, column in enumerate(columns):
        if at < len(column):
            leaf = column[at]
            kind = (leaf.method, leaf.form, leaf.tap)
            found.setdefault(kind, [None] * len(columns))[group] = leaf
    return list(found.values())


def size(leaf: Leaf) -> int:
    """Bytes of a leaf's own tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in leaf.tensors.values())
