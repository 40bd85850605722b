"""hubcli run: what other tasks than classification print."""

from __future__ import annotations

import pytest

from hubcli.cli.run import _lines
from tests.support.cli import hubcli

TURN = "i need a cheap hotel in the north for 3 nights"


@pytest.mark.usefixtures("home")
def test_what_is_said_of_words_stands_below_their_text() -> None:
    """The bundled adapter for slots, whose answer a person can check: price, type, area and length of stay."""
    answer = hubcli("run", "slots/bert-bottleneck", TURN, "thank you")
    assert answer.code == 0, answer.err
    first, *found, second, nothing = answer.out.splitlines()
    assert (first, second, nothing.strip()) == (TURN, "thank you", "nothing found")
    assert {tuple(line.split())[::2] for line in found} == {
        ("B-price", "cheap"), ("B-type", "hotel"), ("B-area", "north"), ("B-stay", "3")
    }  # fmt: skip


def test_a_text_that_was_written_is_printed_as_it_is() -> None:
    assert _lines([{"text": "To be", "generated_text": "To be, or not\nto be"}]) == ["To be, or not\nto be"]
