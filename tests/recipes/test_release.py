"""From a run to an entry of the index, and whether a run reaches what the index states."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hubcli import api
from hubcli.recipe import read
from recipes import again, release
from recipes.card import card

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(path for path in (ROOT / "recipes").glob("*/*.toml"))
TIME = "2026-11-21T00:00:00Z"
FILES = {"adapter.safetensors": b"weights", "manifest.json": b"{}"}


@pytest.fixture
def run() -> dict:
    """What run.json says of a run of recipes/reviews/bert-amazon.toml."""
    figure = {"name": "accuracy", "value": 0.86794, "n": 583, "interval": [0.838, 0.893], "split": "test", "seed": 1}
    return {
        "pipeline": "text-classification",
        "config": {"r": 8},
        "base": {
            "id": "sentence-transformers/all-MiniLM-L6-v2",
            "architecture": "BertModel",
            "weights_sha256": "0" * 64,
        },
        "head": {"labels": ["negative", "positive"], "modules": ["classifier"]},
        "seed": 1,
        "rows": {"train": 20, "validation": 5, "test": 583},
        "parameters": {"trainable": 10, "head": 2, "base": 100},
        "steps": 3,
        "epochs": 1.0,
        "best": None,
        "versions": {"torch": "2", "transformers": "5"},
        "files": [{"path": name} for name in FILES],
        "metrics": [
            figure | {"dataset": "reviews"},
            figure | {"dataset": "reviews", "split": "validation", "value": 0.1},
        ],
    }


@pytest.mark.parametrize("file", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_recipe_can_be_read_and_released(file: Path) -> None:
    recipe = read(file)
    if file.parent.name == "digits":  # not for the index
        return
    assert recipe.name == f"{file.parent.name}/{file.stem}" and recipe.seed == 1
    assert {"version", "description", "authors", "license", "data_license", "base_license"} <= set(recipe.release)
    assert again.data_sets(recipe)


def test_a_run_becomes_an_entry_that_never_changes(tmp_path: Path, run: dict) -> None:
    file = ROOT / "recipes" / "reviews" / "bert-amazon.toml"
    recipe, adapter, index = read(file), tmp_path / "adapter", tmp_path / "index"
    adapter.mkdir()
    for name, data in FILES.items():
        (adapter / name).write_bytes(data)
    (adapter / "README.md").write_text(card(recipe, run), encoding="utf-8")
    made = release.release_of(recipe, file, run, release.keep_files(adapter, index), TIME)
    entry = release.add(index, recipe, made)
    release.add_owner(index / "_owners.json", "reviews", "someone")
    before = entry.read_bytes()
    assert not api.index_check(index)["faults"]
    assert [m["value"] for m in json.loads(before)["releases"][0]["metrics"]] == [0.8679]
    release.add(index, recipe, made)
    assert entry.read_bytes() == before
    with pytest.raises(SystemExit, match="with other content"):
        release.add(index, recipe, replace(made, license="mit"))
    release.add(index, recipe, replace(made, version="1.0.1"))
    assert [r["version"] for r in json.loads(entry.read_text())["releases"]] == ["1.0.0", "1.0.1"]


@pytest.mark.parametrize(
    ("name", "value", "reached"),
    [
        ("accuracy", 0.80, True),
        ("accuracy", 0.69, False),
        ("accuracy", 0.91, True),
        ("perplexity", 0.6, True),
        ("perplexity", 0.95, False),
    ],
)
def test_a_figure_is_reached_inside_its_interval_or_better(name: str, value: float, reached: bool) -> None:
    stated = [{"name": name, "value": 0.8, "interval": [0.7, 0.9]}, {"name": "loss", "value": 1.0, "interval": None}]
    found = [{"name": name, "value": value, "split": "test"}, {"name": name, "value": 0.8, "split": "validation"}]
    lines, said = again.compared(stated, found)
    assert said is reached and len(lines) == 1 and ("NOT" in lines[0]) is not reached


def test_a_figure_that_was_not_measured_is_not_reached() -> None:
    stated = [{"name": name, "value": 0.8, "interval": [0.7, 0.9]} for name in ("exact_match", "perplexity")]
    found = [
        {"name": "perplexity", "value": 0.8, "split": "test"},
        {"name": "exact_match", "value": 0.8, "split": "validation"},
    ]
    lines, said = again.compared(stated, found)
    assert said is False and ["NOT" in line for line in lines] == [True, False]


@pytest.mark.parametrize("measures", [True, False])
def test_what_training_does_not_measure_is_measured_again(
    measures: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The prefix on SmolLM2 trains by perplexity; the index states exact matches as well."""
    name, asked = "slots/smollm2-prefix", []
    stated = json.loads((again.INDEX / f"{name}.json").read_text())["releases"][-1]["metrics"]
    trained = [one for one in stated if one["name"] != "exact_match"]

    def evaluate(folder: str, **how: Any) -> Any:
        asked.append((folder, how["exact_match"], how["write"]))
        return {"data": {"name": "slots"}, "results": [{"figures": stated if measures else trained}]}

    run = {"path": str(tmp_path), "base": {}, "seed": 1, "metrics": trained}
    monkeypatch.setattr("recipes.data.__main__.main", lambda names: 0)
    monkeypatch.setattr(again.api, "train", lambda *given, **how: run)
    monkeypatch.setattr(again.api, "eval", evaluate)
    monkeypatch.setattr("sys.argv", ["again", name])
    assert again.main() == (0 if measures else 1)
    assert asked == [(str(tmp_path), True, False)] and "exact_match" in capsys.readouterr().out
