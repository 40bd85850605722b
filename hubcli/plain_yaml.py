"""YAML that a stranger wrote, read in time that its length bounds; the front matter of cards is such."""

from __future__ import annotations

from typing import Any, Final

import yaml  # type: ignore[import-untyped]

MAX_DEPTH: Final = 24
MAX_EVENTS: Final = 100_000  # each costs microseconds, also where libyaml is not there
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# An integer may be given to base 60 (1:30:00), which is read in time that grows with the square of its length. One of
# 18 characters is also below 2**61 - 1, whose multiples are all one bucket of a dict.
_LONGEST: Final = {"int": 18, "float": 100, "timestamp": 100}


class _Loader(_Safe):  # type: ignore[misc]
    """Safe; a number or a date of more characters than any has is a text."""


def _constructor(kind: str, longest: int) -> Any:
    real = _Safe.yaml_constructors[f"tag:yaml.org,2002:{kind}"]

    def construct(loader: Any, node: Any) -> Any:
        text = loader.construct_scalar(node)
        return real(loader, node) if len(text) <= longest else text

    return construct


for _kind, _most in _LONGEST.items():
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _constructor(_kind, _most))


def load(text: str | bytes) -> Any:
    """The one document in `text`, as YAML 1.1's safe types; ValueError for one that can't be read.

    Refused too: aliases, by which a few lines can stand for gigabytes, and what is nested deeper than MAX_DEPTH.
    """
    try:
        _check(text)
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except (ArithmeticError, LookupError, AttributeError, TypeError) as error:
        # the loader's own, of a tag that the text under it does not fit: `!!timestamp x`
        raise ValueError(f"a value that its tag does not fit ({error!r})") from None


def _check(text: str | bytes) -> None:
    depth = 0
    for count, event in enumerate(yaml.parse(text, _Safe)):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("expected YAML without aliases, found an alias")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"expected at most {MAX_DEPTH} levels, found more")
        if count == MAX_EVENTS:
            raise ValueError(f"expected at most {MAX_EVENTS:,} values, found more")
