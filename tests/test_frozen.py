"""`frozen` against the real thing: whatever is done to a value, a frozen dataclass with slots of the same fields does the same."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from hubcli.frozen import frozen


@frozen
class Ours:
    """A value."""

    a: int
    b: str = "b"
    c: list[int] = field(default_factory=list)
    d: int = field(default=4, repr=False)

    @property
    def twice(self) -> int:
        return self.a * 2


@dataclass(frozen=True, slots=True)
class Real:
    """A value."""

    a: int
    b: str = "b"
    c: list[int] = field(default_factory=list)
    d: int = field(default=4, repr=False)

    @property
    def twice(self) -> int:
        return self.a * 2


@frozen
class Pair:
    """Hashable."""

    x: int
    y: int = 0

    def __repr__(self) -> str:
        return f"{self.x}|{self.y}"


@frozen
class Point:
    """The same fields, something else."""

    x: int
    y: int = 0


def _set(one: Any, name: str) -> None:
    setattr(one, name, 1)


def _match(one: Any) -> Any:
    match one:
        case Ours(a, b) | Real(a, b):
            return a, b


USES: dict[str, Callable[[Any], Any]] = {
    "by position": lambda cls: repr(cls(1, "x", [2], 3)),
    "by name": lambda cls: repr(cls(d=3, a=1)),
    "defaults": lambda cls: (cls(1).b, cls(1).c, cls(1).d, cls(1).twice),
    "a factory makes another each time": lambda cls: cls(1).c is cls(1).c,
    "equal": lambda cls: (cls(1) == cls(1), cls(1) == cls(2), cls(1) == (1, "b", [], 4)),
    "replace": lambda cls: repr(dataclasses.replace(cls(1, c=[5]), b="z")),
    "fields": lambda cls: [(f.name, f.type) for f in dataclasses.fields(cls)],
    "is one": dataclasses.is_dataclass,
    "asdict": lambda cls: dataclasses.asdict(cls(1)),
    "match": lambda cls: _match(cls(7)),
    "copy": lambda cls: copy.deepcopy(cls(1, c=[2])) == cls(1, c=[2]),
    "pickle": lambda cls: pickle.loads(pickle.dumps(cls(1, c=[2]))) == cls(1, c=[2]),
    "no dict": lambda cls: hasattr(cls(1), "__dict__"),
    "slots": lambda cls: cls.__slots__,
    "missing": lambda cls: cls(),
    "too many": lambda cls: cls(1, "b", [], 4, 5),
    "unknown": lambda cls: cls(1, e=5),
    "twice": lambda cls: cls(1, a=1),
    "set": lambda cls: _set(cls(1), "a"),
    "delete": lambda cls: delattr(cls(1), "a"),
    "hash of a list": lambda cls: hash(cls(1)),
}


def _outcome(use: Callable[[Any], Any], cls: type) -> Any:
    try:
        answer = use(cls)
    except Exception as error:
        return type(error)
    return answer.replace(cls.__name__, "V") if isinstance(answer, str) else answer


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_it_does_as_a_dataclass_does(use: Callable[[Any], Any]) -> None:
    assert _outcome(use, Ours) == _outcome(use, Real)


def test_equal_values_have_one_hash_and_other_classes_are_never_equal() -> None:
    assert {Pair(1), Pair(1, 0), Pair(2)} == {Pair(1), Pair(2)}
    assert Pair(1) != Point(1)


def test_a_method_of_the_class_itself_stays() -> None:
    assert (repr(Pair(1, 2)), repr(Point(1, 2))) == ("1|2", "Point(x=1, y=2)")


def test_it_takes_no_attribute_that_is_no_field() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        _set(Pair(1), "z")
