"""Parts cut from rows, against the rule worked out by hand."""

from __future__ import annotations

import hashlib
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubcli.training import splits


def by_hand(text: str, validation: float, test: float) -> str:
    content = " ".join(text.lower().split())
    number = Fraction(int(hashlib.sha256(content.encode()).hexdigest()[:16], 16), 2**64)
    if number < Fraction(test):
        return "test"
    return "validation" if number < Fraction(test + validation) else "train"


@pytest.mark.parametrize("shares", [(0.1, 0.1), (0.0, 0.3), (0.5, 0.0), (0.0, 0.0), (0.45, 0.45)])
def test_the_hash_split_is_the_rule_in_its_docstring(shares: tuple[float, float]) -> None:
    texts = [f"Row {i}  of\tmany" for i in range(3000)]
    parts = splits.by_hash([splits.key([text]) for text in texts], *shares)
    for part, rows in parts.items():
        assert [row for row, text in enumerate(texts) if by_hand(text, *shares) == part] == rows
    for share, part in zip(shares, ("validation", "test"), strict=True):
        assert len(parts[part]) == pytest.approx(3000 * share, abs=90)


@given(st.lists(st.text(max_size=6), min_size=1, max_size=40), st.randoms())
def test_a_row_stands_on_its_side_whatever_is_beside_it(texts: list[str], order: random.Random) -> None:
    def sides(rows: list[str]) -> dict[str, str]:
        parts = splits.by_hash([splits.key([text]) for text in rows], 0.3, 0.3)
        return {rows[row]: part for part, taken in parts.items() for row in taken}

    whole = sides(texts)
    shuffled = order.sample(texts, len(texts))
    assert sides(shuffled) == whole
    assert sides([text.upper().lower() + " \n" for text in texts[:1]]).popitem()[1] == by_hand(
        texts[0].upper(), 0.3, 0.3
    )
    assert all(sides([text]) == {text: whole[text]} for text in texts[:3])


def test_columns_are_no_longer_columns_when_run_together() -> None:
    assert splits.key(["a b", "c"]) != splits.key(["a", "b c"])
    assert splits.key(["a\x1fb"]) == splits.key(["a b"])
    assert splits.key(["A  b "]) == splits.key(["a\nB"])


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_the_random_split_has_exact_counts_and_every_row_once(count: int) -> None:
    parts = splits.by_random(count, 0.15, 0.25, 3)
    assert [len(parts[part]) for part in ("test", "validation")] == [round(count * 0.25), round(count * 0.15)]
    assert sorted(row for rows in parts.values() for row in rows) == list(range(count))
    assert all(rows == sorted(rows) for rows in parts.values())


def test_the_random_split_is_the_seeds() -> None:
    ranked = sorted(range(50), key=lambda row: hashlib.sha256(f"7:split:{row}".encode()).digest())
    assert splits.by_random(50, 0.2, 0.1, 7)["test"] == sorted(ranked[:5])
    assert splits.by_random(50, 0.2, 0.1, 7) != splits.by_random(50, 0.2, 0.1, 8)


def test_a_limit_takes_rows_in_their_order() -> None:
    rows = splits.chosen(100, 10, 0, "train")
    assert len(rows) == 10 and rows == sorted(set(rows)) != splits.chosen(100, 10, 1, "train")
    assert splits.chosen(5, 10, 0, "train") == [0, 1, 2, 3, 4]
