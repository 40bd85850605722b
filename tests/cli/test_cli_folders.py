"""A folder that was typed without ./ before it, and a folder of a training where its adapter was meant: said with what to type."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.adapters import lora_files
from tests.support.cli import hubcli

RESUME = "hubcli train ./runs/recipe/recipe.toml --out ./runs/recipe --resume"


@pytest.fixture
def here(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_folder(folder: Path, status: str) -> None:
    """A folder as a training leaves it."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"v": 1, "status": status, "recipe_sha256": "0" * 64}))
    if status == "done":
        adapter(folder / "adapter")


def adapter(folder: Path) -> None:
    folder.mkdir(parents=True)
    for path, data in lora_files().items():
        (folder / path).write_bytes(data)


@pytest.mark.parametrize(
    ("status", "typed", "hint"),
    [
        ("done", "runs/recipe", "did you mean ./runs/recipe/adapter?"),
        ("done", "runs/recipe/adapter", "did you mean ./runs/recipe/adapter?"),
        ("done", "./runs/recipe", "runs/recipe/adapter"),
        ("running", "runs/recipe", RESUME),
        ("running", "./runs/recipe", "--resume"),
        ("adapter", "runs/recipe", "did you mean ./runs/recipe?"),
    ],
)
def test_what_to_type_instead(here: Path, status: str, typed: str, hint: str) -> None:
    if status == "adapter":
        adapter(here / "runs/recipe")
    else:
        run_folder(here / "runs/recipe", status)
    answer = hubcli("run", typed, "a text", "--offline")
    assert answer.code in (2, 3)
    assert hint in answer.err.splitlines()[-1]
    assert ("unfinished" in answer.err) == (status == "running")


def test_a_name_that_no_folder_has_is_looked_for(here: Path) -> None:
    (here / "films").mkdir()
    (here / "films" / "run.json").write_text("[")
    for typed in ("acme/nosuch", "a/" + "x" * 60):
        assert "search for it" in hubcli("run", typed, "a text", "--offline").err
