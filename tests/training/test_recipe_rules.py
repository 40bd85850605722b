"""What a recipe's keys say together; the examples of the documentation."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from hubcli.errors import HubcliError
from hubcli.recipe import made
from hubcli.training import run_folder
from tests.training.test_recipe import BARE

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_of_the_documentation_are_recipes(text: str) -> None:
    given = tomllib.loads(text)
    made({**BARE, **given}, Path())


def test_a_written_recipe_finds_what_its_recipe_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another folder reads it: `~` and folders beside the recipe are told in full, names of a hub stay."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("recipes/rows", "home/base", "recipes/tokens", "home/b"):
        (tmp_path / name).mkdir(parents=True)
    fused = {"name": "fusion", "config": {"of": ["a", "b"]}, "adapters": {"a": "group/a", "b": "~/b"}}
    given = {**BARE, "base": {"id": "~/base"}, "method": fused, "data": {"dataset": "./rows"}}
    found = tomllib.loads(run_folder.written(made(given, tmp_path / "recipes")))
    assert found["base"]["id"] == str(tmp_path / "home/base")
    assert found["data"]["dataset"] == str(tmp_path / "recipes/rows")
    assert found["method"]["adapters"] == {"a": "group/a", "b": str(tmp_path / "home/b")}
    files = {"data": {"train": "~/train.csv", "test": "test.csv"}, "base": {"id": "b", "tokenizer": "tokens"}}
    found = tomllib.loads(run_folder.written(made({**BARE, **files}, tmp_path / "recipes")))
    assert found["data"]["train"] == [str(tmp_path / "home/train.csv")]
    assert found["data"]["test"] == [str(tmp_path / "recipes/test.csv")]
    assert found["base"] == {"id": "b", "dtype": "float32", "tokenizer": str(tmp_path / "recipes/tokens")}
    named = made({**BARE, "data": {"dataset": "group/rows"}}, tmp_path / "recipes")
    assert tomllib.loads(run_folder.written(named))["data"]["dataset"] == "group/rows"


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


MAPS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "in their order": ({"5": "good", "1": "bad"}, ("good", "bad")),
    "several values of one": ({"1": "b", "2": "b", "3": "a"}, ("b", "a")),
    "none": ({}, ()),
}


@pytest.mark.parametrize("name", MAPS)
def test_a_map_says_what_the_labels_are(name: str) -> None:
    given, labels = MAPS[name]
    assert made(BARE, Path(), {"data.map": given}).data.labels == labels
    own = made(BARE, Path(), {"data.map": given, "data.labels": ["bad", "good", "a", "b"]})
    assert own.data.labels == ("bad", "good", "a", "b")


FUSED = {"name": "fusion", "config": {"of": ["a", "b"]}, "adapters": {"a": "x", "b": "y"}}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a map of one label": ({"data.map": {"1": "a"}}, "expected at least two labels, found a alone"),
    "a map without labels": ({"task": "CAUSAL_LM", "data.map": {"1": "a", "2": "b"}}, "data.map is for SEQ_CLS"),
    "one token": ({"task": "CAUSAL_LM", "train.max_length": 1}, "train.max_length: expected at least 2 tokens"),
    "no head": ({"method.head": "none", "train.head_learning_rate": 0.1}, "no head learns"),
    "words have no head": ({"task": "CAUSAL_LM", "train.head_learning_rate": 0.1}, "CAUSAL_LM has no head that learns"),
    "a fusion's tokenizer": (
        {"method": {**FUSED, "tokenizer": True}},
        "method.tokenizer: a fusion brings no tokenizer",
    ),
    "a fusion on a tokenizer": (
        {"method": FUSED, "base.tokenizer": "x"},
        "base.tokenizer: a fusion brings no tokenizer",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_keys_that_would_do_nothing_are_refused(name: str) -> None:
    changes, said = WRONG[name]
    with pytest.raises(HubcliError, match=re.escape(said)) as caught:
        made(BARE, Path(), changes)
    assert caught.value.id == "E_RECIPE"
