"""Every data set of the recipes, made from a small archive."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from recipes.data import __main__ as command
from recipes.data.archive import Archive, Archives
from recipes.data.dataset import Dataset
from tests.recipes.packed import PACKED


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Dataset]:
    """Every data set, its source being a small archive in tmp_path/given."""
    (tmp_path / "given").mkdir()
    small: dict[Archive, Archive] = {}
    for module, constant, raw in PACKED.values():
        real: Archive = getattr(module, constant)
        small[real] = replace(real, sha256=hashlib.sha256(raw).hexdigest())
        (tmp_path / "given" / real.file).write_bytes(raw)
        monkeypatch.setattr(module, constant, small[real])
    made = {
        name: replace(dataset, archives=tuple(small[real] for real in dataset.archives))
        for name, dataset in command.DATASETS.items()
    }
    monkeypatch.setattr(command, "DATASETS", made)
    return made


@pytest.fixture
def given(tmp_path: Path) -> Archives:
    return Archives(tmp_path / "cache", tmp_path / "given")
