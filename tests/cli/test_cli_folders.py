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


@pytest.mark.parametrize(
    "command",
    [
        ("convert", "~nobody-of-this-name/x", "--to", "hubcli", "--out", "out"),
        ("merge", "a/b", "--how", "exact", "--out", "~nobody-of-this-name/x"),
        ("fuse", "a/b", "--out", "~nobody-of-this-name/x"),
        ("export", "a/b", "--to", "onnx", "--out", "~nobody-of-this-name/x"),
        ("eval", "a/b", "--data", "~nobody-of-this-name/x.csv"),
    ],
    ids=lambda command: command[0],
)
@pytest.mark.usefixtures("home")
def test_a_home_of_nobody_is_said(command: tuple[str, ...]) -> None:
    answer = hubcli(*command)
    assert answer.code == 2 and "no user of this machine is called so" in answer.err, answer.err
