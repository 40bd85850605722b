"""Built sites and the folders that they are built of: neither is taken for the other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hubcli import api
from tests.registry.entrydocs import entry, write
from tests.support.cli import hubcli


@pytest.mark.parametrize("out", [".", "./site", "acme/deep/site", "../linked/site", "../site", "../index-site"])
@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_site_is_built_beside_the_index(
    out: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = write(tmp_path / "index", entry("acme/legal"))
    os.symlink(index, tmp_path / "linked")
    monkeypatch.chdir(index)
    inside = out not in ("../site", "../index-site")
    for _ in range(2):
        answer = hubcli("index", "build", ".", "--out", out, *options)
        assert answer.code == (2 if inside else 0), answer.err
        assert ("--out ../site" in answer.err) == inside
    report = api.index_check(".")
    assert report["ok"] and report["entries"] == 1 and os.listdir(index) == ["acme"]
