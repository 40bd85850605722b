"""The list of threats is whole, and its page is current."""

from __future__ import annotations

import pytest

from tests.threats.page import NAMES, PAGE, ROWS, driven, elsewhere, page

DRIVEN = {*range(1, 26), *range(37, 51), 52, 53, 55, 56, 57}


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it again: python -m tests.threats.page"


def test_every_row_is_told_and_no_test_lacks_one() -> None:
    assert list(ROWS) == list(range(1, 58))
    assert DRIVEN <= driven().keys() <= ROWS.keys()
    for number, row in ROWS.items():
        assert (
            row.attack
            and (row.missing or row.defence)
            and bool(row.where) == bool(row.defence and not row.out_of_scope)
        ), number
        assert set(row.also) <= elsewhere().keys(), (number, set(row.also) - elsewhere().keys())


@pytest.mark.parametrize("number", sorted(DRIVEN))
def test_a_row_is_driven_through_both_doors(number: int) -> None:
    for test in driven()[number]:
        by_door = {
            door: {id.replace(door, "", 1) for id in test.ids if id.startswith(f"row{number}-{door}")} for door in NAMES
        }
        assert by_door["cli"] == by_door["python"] != set(), test
