"""Regular expressions from strangers, matched in bounded time.

`target_modules` of an adapter may be a regular expression, and Python's engine can take minutes on 30 characters. Here the
pattern is parsed by Python's own parser and then walked over *sets of positions*, held as bits of an integer: no
backtracking, so the time is bounded by pattern length × name length, to the power of how deep repeats nest (at most 3).
What can't be walked that way (backreferences, lookbehind, flags) is refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from hubcli.errors import ConfigKeyError

MAX_LENGTH = 1000  # characters of a pattern
MAX_NESTING = 3  # repeats inside repeats
MAX_NAME = 1000  # characters of a module's name

_Step = Callable[[str, int], int]  # (text, mask of start positions) -> mask of end positions


@lru_cache(maxsize=256)
def compile_pattern(pattern: str, where: str = "target_modules") -> Callable[[str], bool]:
    """A function `name -> bool` that says what `re.fullmatch(pattern, name)` says.

    Raises:
        ConfigKeyError: too long, not a regular expression, too deeply nested, or of a kind that can't be bounded.
    """
    if len(pattern) > MAX_LENGTH:
        raise ConfigKeyError(f"{where}: a pattern of {len(pattern)} characters; at most {MAX_LENGTH} are allowed")
    parser = re._parser  # type: ignore[attr-defined]
    try:
        tree = parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigKeyError(f"{where}: {pattern[:80]!r} is no regular expression", cause=str(error)) from None
    if tree.state.flags & ~re.UNICODE:
        raise ConfigKeyError(f"{where}: flags in a pattern are not supported: {pattern[:80]!r}")
    step = _sequence(tree, where, 0)

    def matches(name: str) -> bool:
        return len(name) <= MAX_NAME and bool(step(name, 1) >> len(name) & 1)

    return matches


def _sequence(nodes: Iterable[Any], where: str, nesting: int) -> _Step:
    steps = [_node(str(op), argument, where, nesting) for op, argument in nodes]

    def run(text: str, mask: int) -> int:
        for step in steps:
            if not mask:
                return 0
            mask = step(text, mask)
        return mask

    return run


def _node(op: str, argument: Any, where: str, nesting: int) -> _Step:
    test = _character(op, argument, where)
    if test is not None:
        return _one(test)
    if op in ("MAX_REPEAT", "MIN_REPEAT"):
        low, high, inner = argument
        if nesting >= MAX_NESTING:
            raise ConfigKeyError(f"{where}: repeats nested more than {MAX_NESTING} deep in a pattern")
        return _repeat(int(low), int(high), _sequence(inner, where, nesting + 1))
    if op == "SUBPATTERN":
        _, added, removed, inner = argument
        if added or removed:
            raise ConfigKeyError(f"{where}: flags in a pattern are not supported")
        return _sequence(inner, where, nesting)
    if op == "BRANCH":
        branches = [_sequence(branch, where, nesting) for branch in argument[1]]
        return lambda text, mask: _union(branch(text, mask) for branch in branches)
    if op == "AT":
        return _at(str(argument), where)
    if op in ("ASSERT", "ASSERT_NOT") and argument[0] == 1:
        return _lookahead(_sequence(argument[1], where, nesting + 1), op == "ASSERT")
    raise ConfigKeyError(f"{where}: a pattern uses {op.lower().replace('_', ' ')}, which is not supported")


def _union(masks: Iterable[int]) -> int:
    result = 0
    for mask in masks:
        result |= mask
    return result


def _one(test: Callable[[str], bool]) -> _Step:
    def run(text: str, mask: int) -> int:
        fits = sum(1 << i for i, char in enumerate(text) if mask >> i & 1 and test(char))
        return fits << 1

    return run


def _repeat(low: int, high: int, inner: _Step) -> _Step:
    def run(text: str, mask: int) -> int:
        bound = 2 * len(text) + 2  # by then the set of positions no longer changes
        for _ in range(min(low, bound)):
            after = inner(text, mask)
            if after == mask:
                break
            mask = after
        reached = fresh = mask
        for _ in range(min(high - low, bound)):
            fresh = inner(text, fresh) & ~reached
            if not fresh:
                break
            reached |= fresh
        return reached

    return run


def _lookahead(inner: _Step, wanted: bool) -> _Step:
    def run(text: str, mask: int) -> int:
        return sum(1 << i for i in range(len(text) + 1) if mask >> i & 1 and bool(inner(text, 1 << i)) is wanted)

    return run


def _at(kind: str, where: str) -> _Step:
    if kind in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
        return lambda text, mask: mask & 1
    if kind in ("AT_END", "AT_END_STRING"):
        return lambda text, mask: mask & (1 << len(text))
    if kind in ("AT_BOUNDARY", "AT_NON_BOUNDARY"):
        wanted = kind == "AT_BOUNDARY"
        return lambda text, mask: sum(
            1 << i for i in range(len(text) + 1) if mask >> i & 1 and _boundary(text, i) is wanted
        )
    raise ConfigKeyError(f"{where}: a pattern uses {kind.lower()}, which is not supported")


def _word(char: str) -> bool:
    return char.isalnum() or char == "_"


def _boundary(text: str, at: int) -> bool:
    before = at > 0 and _word(text[at - 1])
    after = at < len(text) and _word(text[at])
    return before is not after


_CATEGORIES: dict[str, Callable[[str], bool]] = {
    "DIGIT": str.isdecimal,
    "SPACE": str.isspace,
    "WORD": _word,
}


def _character(op: str, argument: Any, where: str) -> Callable[[str], bool] | None:
    """The test of a node that takes exactly one character, or None for other nodes."""
    simple: dict[str, Callable[[str], bool]] = {
        "LITERAL": lambda char: ord(char) == argument,
        "NOT_LITERAL": lambda char: ord(char) != argument,
        "ANY": lambda char: char != "\n",
        "RANGE": lambda char: argument[0] <= ord(char) <= argument[1],
    }
    if op == "CATEGORY":
        name = str(argument).removeprefix("CATEGORY_")
        test, wanted = _CATEGORIES[name.removeprefix("NOT_")], not name.startswith("NOT_")
        return lambda char: test(char) is wanted
    if op == "IN":
        negated = str(argument[0][0]) == "NEGATE"
        tests = [_character(str(o), a, where) for o, a in argument[negated:]]
        return lambda char: any(test(char) for test in tests if test is not None) is not negated
    return simple.get(op)
