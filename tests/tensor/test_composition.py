"""Compositions as data, and their text form."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubcli.composition import (
    Average,
    BatchSplit,
    Block,
    Expr,
    Fuse,
    Parallel,
    Split,
    Stack,
    contains,
    leaves,
    parse,
    text,
)
from hubcli.errors import ExpressionError

names = st.one_of(
    st.sampled_from(["a", "lang/de", "hf:org/repo@main", "acme:g/n@^1.2", "./folder", "none", "with space", 'a"b\\c,']),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1).filter(
        lambda s: bool(s.strip())
    ),
)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)


def blocks(children: st.SearchStrategy[Expr]) -> st.SearchStrategy[Block]:
    some = st.lists(children, min_size=1, max_size=3)
    sizes = st.integers(0, 9)
    return st.one_of(
        some.map(lambda c: Stack(*c)),
        some.map(lambda c: Parallel(*c)),
        some.map(lambda c: Average(*c)),
        st.tuples(some, st.data()).map(lambda t: Average(*t[0], weights=[t[1].draw(numbers) for _ in t[0]])),
        st.tuples(some, st.data()).map(lambda t: Split(*t[0], sizes=[t[1].draw(sizes) for _ in t[0]])),
        st.tuples(some, st.data()).map(lambda t: BatchSplit(*t[0], sizes=[t[1].draw(sizes) for _ in t[0]])),
        st.tuples(some, st.none() | names).map(lambda t: Fuse(*t[0], by=t[1])),
    )


expressions = st.recursive(st.none() | names, blocks, max_leaves=8)


@given(expressions)
def test_text_and_pickle_round_trip(expr: Expr) -> None:
    assert parse(text(expr)) == expr
    assert pickle.loads(pickle.dumps(expr)) == expr == copy.deepcopy(expr)
    assert hash(parse(text(expr))) == hash(expr)


def test_the_readme_example() -> None:
    expr = parse("STACK(lang/de, average(a, b, weights=[0.7, 0.3]))")
    assert expr == Stack("lang/de", Average("a", "b", weights=[0.7, 0.3]))
    assert str(expr) == "stack(lang/de, average(a, b, weights=[0.7, 0.3]))"
    assert leaves(expr) == ("lang/de", "a", "b")
    assert contains(expr, Average) and not contains(expr, Split)
    assert expr.mapped(str.upper) == Stack("LANG/DE", Average("A", "B", weights=[0.7, 0.3]))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Stack("a"), Stack("a", "b")),
        (Stack("a"), Parallel("a")),
        (Average("a", "b"), Average("a", "b", weights=[0.5, 0.5])),
        (Split("a", "b", sizes=[1, 2]), Split("a", "b", sizes=[2, 1])),
        (Split("a", "b", sizes=[1, 2]), BatchSplit("a", "b", sizes=[1, 2])),
        (Fuse("a", by="f"), Fuse("a", by="g")),
        (Stack("a", None), Stack("a")),
    ],
)
def test_everything_counts_in_equality(one: Block, other: Block) -> None:
    assert one != other


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "position 1: expected a block or a ref, found the end"),
        ("stack(a b)", "position 9: expected ',' or '\\)', found 'b'"),
        ("stack(a", "position 8"),
        ("merge(a)", "no block is called 'merge'"),
        ("stack()", "at least one child"),
        ("average(a, weights=[x])", "position 21: expected a number"),
        ("average(a, weights=[nan])", "expected a number"),
        ("average(a, weights=[1, 2])", "1 children need 1 weights, found 2"),
        ("average(a, weights=b)", "weights= can't be 'b'"),
        ("average(weights=[1], a)", "a child comes before the options"),
        ("split(a, b)", "needs sizes"),
        ("split(a, b, sizes=[1.5, 2])", "whole numbers"),
        ("batchsplit(a, sizes=[-1])", "whole numbers from 0"),
        ("stack(a, weights=[1])", "Stack takes no options, found 'weights='"),
        ("'a", "position 1: the quote that opens here is never closed"),
        ("stack('')", "an empty name"),
        ("a)", "position 2: expected the end"),
        ("stack(" * 40 + "a" + ")" * 40, "nested more than 16 deep"),
        ("a" * 70_000, "70000 characters"),
    ],
)
def test_what_is_wrong_is_said_where(source: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        parse(source)


@pytest.mark.parametrize(
    "build",
    [
        Stack,
        lambda: Stack(3),  # type: ignore[arg-type]
        lambda: Stack(""),
        lambda: Average("a", weights=[float("nan")]),
        lambda: Average("a", weights=[True]),
        lambda: Split("a", sizes=[1, 2]),
        lambda: Fuse("a", by=""),
    ],
)
def test_a_block_that_makes_no_sense_is_never_built(build: object) -> None:
    with pytest.raises(ExpressionError):
        build()  # type: ignore[operator]


def test_blocks_do_not_change() -> None:
    with pytest.raises(AttributeError):
        Stack("a").children = ()
