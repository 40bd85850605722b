"""The table error id → exit code covers every class, and errors cross processes whole."""

from __future__ import annotations

import pickle
import re

import pytest

from hubcli import errors

CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.HubcliError)]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_class_has_an_exit_code_and_stands_in_the_tree(cls: type[errors.HubcliError]) -> None:
    assert cls("x").exit_code in range(1, 9)
    documented = re.search(rf"{cls.__name__}\s+(E_\w+)", errors.__doc__ or "")
    assert documented is not None
    assert documented[1] == cls.default_id


def test_pickles_whole() -> None:
    error = errors.ContentError("m", cause="c", hint="h", id="E_SIZE")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.message, copy.cause, copy.hint, copy.id) == (errors.ContentError, "m", "c", "h", "E_SIZE")
