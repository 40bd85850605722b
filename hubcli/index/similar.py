"""Names that a person may take for each other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import combinations, zip_longest

NEAR_LENGTH = 8  # of a part in which two edits are too few for a new name
SHORT = 4  # letters of a part in which one edit is enough
GROUP_LENGTH = 5
LONGER = 3  # letters by which a name that looks alike differs at most: "rn" for "m", a dash more
_ALIKE = str.maketrans("01l-_.", "oii   ")
_PAIRS = (("rn", "m"), ("vv", "w"), ("cl", "d"))


def near_collisions(names: Collection[str], new: Collection[str] = ()) -> list[tuple[str, str]]:
    """Pairs of names that a person may take for each other, both in order.

    They look alike (`-`, `_` and `.` count as the same, as do 0 and o, 1, l and i, rn and m), or are one edit
    apart: a letter more, less, other, or two swapped. Names may be that in a digit, or in a part of 4 letters or fewer
    (`multi-en` and `multi-de`, `bert-lora` and `bert-qlora`); where the part is all that follows the group, in one that has
    no more than 4 in both (`lang/de` and `lang/da`, but not `acme/film` and `acme/films`). Of a name in `new` more is
    asked: two edits in one part of 8 letters are too few as well.
    """
    pairs = {pair for pair in _sharing(_kept(names)) if _folded(pair[0]) == _folded(pair[1]) or _near(*pair)}
    pairs |= {pair for pair in _sharing(_cut_twice(names)) if {*pair} & {*new} and _nearly(*pair)} if new else set()
    return sorted(pairs)


def near_to(name: str, names: Iterable[str]) -> list[str]:
    """Those of `names` that a person may take for this one, in order: they look alike, or are one edit apart, as in
    `near_collisions`.
    """
    folded = _folded(name)
    return sorted(other for other in names if other != name and (_near(name, other) or _folded(other) == folded))


def ends_alike(name: str) -> tuple[str, str]:
    """The letters that a name which looks like this one can begin with, and end with."""
    folded = _folded(name)
    letters = [set(text.lower()) for text in (name[0] + folded[0], name[-1] + folded[-1])]
    for place, found in zip((0, -1), letters, strict=True):
        found |= {chr(code) for code, to in _ALIKE.items() if chr(to) in found}
        found |= {pair[place] for pair, one in _PAIRS if one in found}
    return "".join(sorted(letters[0])), "".join(sorted({*letters[1], *"-_."}))


def near_groups(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of groups (`group/`) that may be taken for each other, whatever they hold: they look alike, or, from 5 letters
    on, are one edit apart that is no digit.
    """
    groups = {name.partition("/")[0] for name in names if "/" in name}
    return [
        (f"{a}/", f"{b}/") for a, b in sorted(_sharing(_kept(groups))) if _folded(a) == _folded(b) or _near_group(a, b)
    ]


def _near_group(a: str, b: str) -> bool:
    return min(len(a), len(b)) >= GROUP_LENGTH and one_edit(a, b) and not _digits(a, b)


def _sharing(keyed: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Pairs of names that have a key in common, each in order."""
    buckets: dict[str, set[str]] = {}
    for key, name in keyed:
        buckets.setdefault(key, set()).add(name)
    return {pair for bucket in buckets.values() for pair in combinations(sorted(bucket), 2)}


def _kept(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names by what they look like and by what is left without one letter: one edit apart share a key."""
    for name in names:
        for key in {"=" + _folded(name), *_cut(name), name}:
            yield key, name


def _cut_twice(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names by what is left without two letters of one long part: two edits apart there share a key."""
    for name in names:
        parts = _parts(name)
        for number, part in enumerate(parts):
            if len(part) >= NEAR_LENGTH - 2:
                once = _cut(part)
                for left in {part, *once, *(twice for cut in once for twice in _cut(cut))}:
                    yield "\0".join([*parts[:number], left, *parts[number + 1 :]]), name


def _cut(text: str) -> set[str]:
    return {text[:i] + text[i + 1 :] for i in range(len(text))}


def _folded(name: str) -> str:
    text = name.lower()
    for pair, one in _PAIRS:
        text = text.replace(pair, one)
    return text.translate(_ALIKE).replace(" ", "")


def _near(a: str, b: str) -> bool:
    """One edit apart (Damerau-Levenshtein), in a part that is long enough to be misread."""
    if not one_edit(a, b):
        return False
    parts = zip_longest(_parts(a), _parts(b), fillvalue="")
    x, y = next((x, y) for x, y in parts if x != y)
    whole = (x, y) == (a.partition("/")[2], b.partition("/")[2])
    return (max if whole else min)(len(x), len(y)) > SHORT and not _digits(x, y)


def _nearly(a: str, b: str) -> bool:
    """Two edits apart in one part, of 8 letters or more."""
    parts = [_parts(a), _parts(b)]
    other = [(x, y) for x, y in zip(*parts, strict=False) if x != y]
    if len(parts[0]) != len(parts[1]) or len(other) != 1 or min(map(len, other[0])) < NEAR_LENGTH:
        return False
    return not _digits(*other[0]) and distance(*other[0]) <= 2


def _digits(a: str, b: str) -> bool:
    """Is there a digit in what is left of either without their common beginning and end?"""
    start = _common(a, b)
    end = _common(a[start:][::-1], b[start:][::-1])
    return any(c.isdigit() for text in (a, b) for c in text[start : len(text) - end])


def _common(a: str, b: str) -> int:
    """How many letters both begin with."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _parts(name: str) -> list[str]:
    return name.replace("/", "-").replace("_", "-").replace(".", "-").split("-")


def one_edit(a: str, b: str) -> bool:
    """Is one insertion, deletion, substitution or swap of neighbours all it takes?"""
    if abs(len(a) - len(b)) > 1 or a == b:
        return False
    start = _common(a, b)
    x, y = a[start:], b[start:]
    return x[1:] == y[1:] or x[1:] == y or x == y[1:] or (x[1::-1] == y[:2] and x[2:] == y[2:])


def distance(a: str, b: str) -> int:
    """Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment)."""
    earlier: list[int] = []
    before: list[int] = []
    row: list[int] = [*range(len(b) + 1)]
    for i, x in enumerate(a):
        earlier, before, row = before, row, [i + 1]
        for j, y in enumerate(b):
            best: int = min(before[j + 1] + 1, row[j] + 1, before[j] + (x != y))
            if i and j and x == b[j - 1] and a[i - 1] == y:
                best = min(best, earlier[j - 1] + 1)
            row.append(best)
    return row[-1]
