"""Tiny bases and toy data, made once; one thread, as recipes of the tests say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import trainable


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """family -> the folder of its tiny base."""
    folder, made = tmp_path_factory.mktemp("bases"), {}

    def of(family: str) -> Path:
        if family not in made:
            wide = {"hidden_size": 64, "intermediate_size": 64} if family == "wide" else {}
            made[family] = trainable.base(folder / family, "bert" if wide else family, **wide)
        return made[family]

    return of


@pytest.fixture(scope="session")
def bert(bases: Callable[[str], Path]) -> Path:
    return bases("bert")


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trainable.jsonl(tmp_path_factory.mktemp("data") / "reviews.jsonl", trainable.reviews())
