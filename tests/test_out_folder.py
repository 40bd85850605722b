"""A folder appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubcli.errors import UsageError
from hubcli.out_folder import appearing


def test_it_appears_at_the_end_and_nothing_else_stays(tmp_path: Path) -> None:
    with appearing(tmp_path / "new" / "out") as folder:
        (folder / "a").write_text("1")
        assert not (tmp_path / "new" / "out").exists()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["out"]
    assert (tmp_path / "new" / "out" / "a").read_text() == "1"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_error_all_is_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("1")
    with pytest.raises(error), appearing(tmp_path / "out", replace=True) as folder:
        (folder / "a").write_text("1")
        raise error
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == ["out", "out/old"]


def test_what_is_there_is_replaced_only_when_told(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("1")
    with pytest.raises(UsageError, match="not empty"), appearing(tmp_path / "out"):
        pass
    with appearing(tmp_path / "out", replace=True) as folder:
        (folder / "a").write_text("1")
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == ["out", "out/a"]
    with pytest.raises(UsageError, match="no folder"), appearing(tmp_path / "out" / "a", replace=True):
        pass
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(UsageError, match="no folder"), appearing(tmp_path / "link", replace=True):
        pass
