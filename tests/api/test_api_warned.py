"""What Python is warned of while a command runs."""

from __future__ import annotations

import warnings

import pytest

from hubcli.api.models import python_warning
from hubcli.api.warned import told
from hubcli.method import HubcliWarning


def test_each_warning_is_told_once_as_it_is_raised() -> None:
    events: list[str] = []
    with pytest.warns(DeprecationWarning, match="old") as usual, told(events.append):
        for _ in range(2):
            warnings.warn("careful", HubcliWarning, stacklevel=1)
            events.append("work")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert events == ["careful", "work", "work"] and len(usual) == 1


@pytest.mark.parametrize("deep", [False, True])
def test_python_is_warned_of_it_as_if_nobody_listened(deep: bool) -> None:
    with pytest.warns(UserWarning, match="careful") as found, told(python_warning):
        if deep:
            with told(python_warning):
                warnings.warn("careful", UserWarning, stacklevel=1)
        else:
            warnings.warn("careful", UserWarning, stacklevel=1)
        assert len(found) == 1
    assert [warning.category for warning in found] == [HubcliWarning]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with told(python_warning):
            warnings.warn("careful", UserWarning, stacklevel=1)
    with warnings.catch_warnings(), pytest.raises(HubcliWarning):
        warnings.simplefilter("error")
        with told(python_warning):
            warnings.warn("careful", UserWarning, stacklevel=1)
