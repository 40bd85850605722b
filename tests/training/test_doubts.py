"""What a person is warned of in data that can be used."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from hubcli.method import HubcliWarning
from hubcli.training.examples import load
from tests.training.written import GOOD, recipe, write

WARNED: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "class missing": (GOOD, "text,label\nnew,pos\n", {}, r'^test has no row of "neg"$'),
    "class unseen": (
        GOOD, "text,label\nnew,pos\nn,neg\no,other\n", {"labels": ["pos", "neg", "other"]},
        r'^test has rows of "other", which train has none of$',
    ),
    "rows in both": (
        GOOD, "text,label\nA  good FILM,pos\nfine,pos\nnew,neg\n", {},
        "^rows with the same input as a row of train: 2 rows of test$",
    ),
    "contradiction": (
        GOOD + "Fine,neg\nfine ,neg\n", "text,label\nnew,pos\nn,neg\n", {},
        r'^rows with the same input and another label: train.csv:6 \("neg", but "pos" in train.csv:4\), train.csv:7 ',
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WARNED)
def test_warnings(case: str, tmp_path: Path) -> None:
    train, test, data, expected = WARNED[case]
    write(tmp_path, "train.csv", train)
    write(tmp_path, "test.csv", test)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        load(recipe(tmp_path, train="train.csv", test="test.csv", **data))
    assert all(issubclass(one.category, HubcliWarning) for one in told)
    assert len([one for one in told if re.search(expected, str(one.message))]) == 1


def test_a_row_that_is_in_validation_and_in_test_is_told_of(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", GOOD)
    write(tmp_path, "other.csv", "text,label\nnew,pos\nn,neg\n")
    with pytest.warns(HubcliWarning, match="^rows with the same input as a row of validation: 2 rows of test$"):
        load(recipe(tmp_path, train="train.csv", validation="other.csv", test="other.csv"))
