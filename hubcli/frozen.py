"""Value objects that cost little to define: `frozen` stands for `dataclass(frozen=True, slots=True)` at a tenth of its price.

A dataclass compiles its methods anew for each class, half a millisecond a class, and a command defines some thirty of them
before it can answer. Here all classes share methods that read the fields when they are called. `dataclasses.field`, `fields`,
`replace`, `is_dataclass`, `match`, copy and pickle work as ever; `__post_init__`, `InitVar`, `KW_ONLY` and subclasses of value
objects do not.
"""

from __future__ import annotations

from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from typing import Any, NoReturn, TypeVar, dataclass_transform

Class = TypeVar("Class", bound=type)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: Class) -> Class:
    """Make a class of annotated fields a frozen value object with slots; a method that the class has itself stays."""
    own = set(vars(cls))
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    for name, method in _SHARED.items():
        if name not in own:
            setattr(made, name, method)
    return made  # type: ignore[no-any-return]


def _init(self: Any, *values: Any, **named: Any) -> None:
    known = self.__dataclass_fields__
    if len(values) > len(known):
        raise _misused(self, f"takes {len(known)} values, {len(values)} were given")
    given = dict(zip(known, values, strict=False))
    if twice := given.keys() & named.keys():
        raise _misused(self, f"got two values for {', '.join(sorted(twice))}")
    given |= named
    for name, told in known.items():
        if name in given:
            value = given.pop(name)
        elif told.default is not MISSING:
            value = told.default
        elif told.default_factory is not MISSING:
            value = told.default_factory()
        else:
            raise _misused(self, f"needs a value for {name}")
        object.__setattr__(self, name, value)
    if given:
        raise _misused(self, f"has no field {', '.join(sorted(given))}")


def _misused(self: Any, how: str) -> TypeError:
    return TypeError(f"{type(self).__qualname__} {how}")


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, name) for name in self.__dataclass_fields__)


def _eq(self: Any, other: object) -> bool:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _repr(self: Any) -> str:
    shown = ", ".join(f"{told.name}={getattr(self, told.name)!r}" for told in fields(self) if told.repr)
    return f"{type(self).__qualname__}({shown})"


def _refuse_set(_self: Any, name: str, _: object) -> NoReturn:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(_self: Any, name: str) -> NoReturn:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _reduce(self: Any) -> tuple[type, tuple[Any, ...]]:
    return type(self), _values(self)


_SHARED = {
    "__init__": _init,
    "__eq__": _eq,
    "__hash__": _hash,
    "__repr__": _repr,
    "__setattr__": _refuse_set,
    "__delattr__": _refuse_delete,
    "__reduce__": _reduce,
}
