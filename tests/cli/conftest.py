"""An index of our own, configured, beside the bundled one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.adapters import IndexFolder
from tests.support.cli import hubcli


@pytest.fixture
def index(tmp_path: Path, home: Path) -> IndexFolder:
    """An index folder named `acme` with three versions of acme/one and one of acme/two, configured by `index add`."""
    folder = IndexFolder(tmp_path / "index")
    folder.add("acme/one", "1.0.0", "1.1.0", "2.0.0-rc.1")
    folder.add("acme/two")
    assert hubcli("index", "add", "acme", str(folder.folder)).code == 0
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adapters, their bases and labelled rows to measure them on."""
    from tests.support.evaluated import prepared

    return prepared(tmp_path_factory.mktemp("eval"))


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own with the adapters, the data and no figures; bases lie elsewhere."""
    from tests.support.evaluated import copied

    copied(made, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
