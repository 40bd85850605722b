"""An index to mirror, and where the mirror goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hubcli import api
from tests.support.adapters import IndexFolder
from tests.support.composed import compose, composed


@pytest.fixture
def index(tmp_path: Path) -> IndexFolder:
    """acme/one in three versions, acme/two in one, their average, and a fusion over them."""
    folder = IndexFolder(tmp_path / "origin")
    folder.add("acme/one", "1.0.0", "1.1.0", "2.0.0")
    folder.add("acme/two")
    compose(folder, "acme/both", composed("average(acme/one, acme/two)", {"acme/one": "^1.0", "acme/two": "^1.0"}))
    api.index_remove("bundled")
    api.index_add("acme", str(folder.folder))
    return folder


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another machine: an empty home, and no socket can be connected."""
    monkeypatch.setenv("HUBCLI_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "elsewhere" / "hf"))
    yield
