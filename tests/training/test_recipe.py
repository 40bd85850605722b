"""Recipes: the template against the defaults, and what is refused."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from hubcli import recipe as recipes
from hubcli.errors import HubcliError
from hubcli.recipe import Recipe, made, read, value_of
from hubcli.recipe_template import template
from hubcli.schema import check
from hubcli.training import run_folder
from tests.support.trainable import document

BARE = {"v": 1, "task": "SEQ_CLS", "base": {"id": "b"}, "method": {"name": "lora"}, "data": {"train": "train.csv"}}
# keys that the template shows with an example: their default is to be without
EXAMPLES = {
    "name", "base.revision", "base.weights_sha256", "base.device", "base.tokenizer", "method.config", "method.quantize",
    "method.format", "method.adapters", "data.validation", "data.test", "data.dataset", "data.splits", "data.format",
    "data.delimiter", "data.labels", "data.map", "data.limit", "data.name", "data.columns", "data.subset", "data.revision",
    "train.max_steps", "train.head_learning_rate", "train.evaluate", "train.metric", "train.early_stopping", "train.threads",
    "release", "compare", "base.id", "data.train", "method.name", "task", "v",
}  # fmt: skip


every = recipes.keys()


def switched_on() -> dict[str, Any]:
    """The template with every commented key in force."""
    lines = []
    for line in template().splitlines():
        found = re.match(r"# (\[[\w.]+\]|[a-z][\w0-9]* = .*)", line)
        lines.append(found.group(1) if found else line)
    return tomllib.loads("\n".join(lines))


def flat(table: Any, before: str = "") -> dict[str, Any]:
    found = {}
    for key, value in table.items():
        name = before + key
        inner = isinstance(value, dict) and name in ("base", "method", "data", "split", "train")
        found |= flat(value, name + ".") if inner else {name: value}
    return found


def test_the_template_is_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(template())
    assert read(tmp_path / "recipe.toml") == dataclasses.replace(
        made({**BARE, "base": {"id": "sentence-transformers/all-MiniLM-L6-v2"},
              "method": {"name": "lora", "config": {"r": 8, "lora_alpha": 16}}}, tmp_path),
        folder=tmp_path,
    )  # fmt: skip


def test_the_template_has_every_key_with_its_true_default() -> None:
    shown = flat(switched_on())
    assert {fault.field for fault in check(switched_on(), "recipe")} == {"base.weights_sha256"}, "no sha256 of anything"
    defaults = flat(made(BARE, Path()).document())
    told = {key for key in every if key.count(".") <= 1 and key not in ("base", "method", "data", "split", "train")}
    told = {key for key in told if not key.startswith(("release.", "compare."))}
    mentioned = {key for key in told if re.search(rf"\b{key.rpartition('.')[2]}\b", template())}
    assert told == mentioned
    assert set(shown) >= told - {"train.max_steps", "data.subset", "data.revision"}
    for key, value in shown.items():
        if key in EXAMPLES:
            assert key in ("base.id", "data.train", "method.name", "task", "v") or defaults[key] in (None, [], {}), key
        else:
            assert value == defaults[key], key
    assert set(switched_on()["release"]) | {"data_license", "base_license", "citation"} == {
        key.partition(".")[2] for key in every if key.startswith("release.")
    }


def test_the_schema_and_the_dataclasses_have_the_same_keys() -> None:
    found = {
        f"{table}{field.name}"
        for table, kind in (("", Recipe), ("base.", recipes.Base), ("method.", recipes.MethodSpec), ("data.", recipes.Data),
                            ("split.", recipes.Split), ("train.", recipes.Train))
        for field in dataclasses.fields(kind)
    } - {"folder"}  # fmt: skip
    free = ("data.columns.", "data.splits.", "data.limit.", "train.early_stopping.", "release.")
    assert {key for key in every if not key.startswith(free)} == found


VALUES = {
    "3": 3, "0.5": 0.5, "1e-3": 1e-3, "true": True, "some/model": "some/model", '"3"': "3", "[1, 2]": [1, 2], "lora": "lora",
    "{a = 1}": {"a": 1}, "": "", "a = b": "a = b", "1\nv = 2": "1\nv = 2", "./x y.csv": "./x y.csv",
}  # fmt: skip


@pytest.mark.parametrize("text", VALUES)
def test_a_value_on_the_command_line_is_toml_or_text(text: str) -> None:
    found = value_of(text)
    assert found == VALUES[text] and type(found) is type(VALUES[text])


CHANGES: dict[str, tuple[Any, Any]] = {
    "seed": (7, lambda r: r.seed == 7),
    "train.epochs": (0.5, lambda r: r.train.epochs == 0.5),
    "train.group_by_length": (False, lambda r: r.train.group_by_length is False),
    "method.config.r": (16, lambda r: r.method.config == {"r": 16}),
    "method.config.a.b": (1, lambda r: r.method.config == {"a": {"b": 1}}),
    "data.train": (["a.csv", "b.csv"], lambda r: r.data.train == ("a.csv", "b.csv")),
    "data.labels": (["no", "yes"], lambda r: r.data.labels == ("no", "yes")),
    "train.early_stopping.patience": (2, lambda r: r.train.early_stopping == {"patience": 2}),
    "method.head": (["classifier"], lambda r: r.method.head == ("classifier",)),
    "name": (None, lambda r: r.name is None),
}


@pytest.mark.parametrize("key", CHANGES)
def test_a_key_is_changed(key: str) -> None:
    value, right = CHANGES[key]
    given = {**BARE, "name": "a/b"}
    assert right(made(given, Path(), {key: value}))
    assert given == {**BARE, "name": "a/b"}


FILES, STEPS = {"train": "a.csv", "test": "b.csv"}, {"train": {"max_steps": 9}}
INSTEAD: dict[str, tuple[dict[str, Any], dict[str, Any], Any]] = {
    "steps": ({"train": {"epochs": 2}}, {"train.max_steps": 5}, lambda r: r.train.max_steps == 5),
    "epochs": (STEPS, {"train.epochs": 2}, lambda r: (r.train.epochs, r.train.max_steps) == (2, None)),
    "taken away": ({"train": {"epochs": 2}}, {"train.epochs": None, "train.max_steps": 5}, lambda r: r.train.max_steps == 5),
    "back": (STEPS, {"train.max_steps": None}, lambda r: r.train.max_steps is None),
    "dataset": ({"data": FILES}, {"data.dataset": "x/y"}, lambda r: (r.data.dataset, r.data.train, r.data.test) == ("x/y", (), ())),
    "files": (
        {"data": {"dataset": "x/y", "subset": "z", "splits": {"test": "t"}}},
        {"data.train": "a.csv"},
        lambda r: (r.data.train, r.data.dataset, r.data.subset, r.data.splits) == (("a.csv",), None, None, {}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INSTEAD)
def test_of_two_keys_that_exclude_one_another_the_one_that_is_changed_stays(name: str) -> None:
    given, changes, right = INSTEAD[name]
    assert right(made({**BARE, **given}, Path(), changes))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "files and a dataset": ({"data.train": "a.csv", "data.dataset": "x/y"}, "found both"),
    "both": ({"train.epochs": 2, "train.max_steps": 3}, "expected epochs or max_steps"),
    "type": ({"train.epochs": "3"}, "train.epochs"),
    "boolean": ({"train.group_by_length": 1}, "train.group_by_length"),
    "whole": ({"train.batch_size": 1.5}, "train.batch_size"),
    "nan": ({"train.learning_rate": float("nan")}, "train.learning_rate"),
    "inf": ({"train.weight_decay": float("inf")}, "train.weight_decay"),
    "list": ({"data.labels": "a,b"}, "data.labels"),
    "one label": ({"data.labels": ["a"]}, "data.labels"),
    "twice": ({"data.labels": ["a", "a"]}, "names a label twice"),
    "labels": ({"data.labels": ["a", "b"], "task": "CAUSAL_LM"}, "data.labels is for"),
    "map": ({"data.map": {"0": "c"}, "data.labels": ["a", "b"]}, "c: not among data.labels"),
    "columns": ({"data.columns": {"prompt": "p"}}, "SEQ_CLS reads label, text, text_pair, not prompt"),
    "ways": ({"task": "CAUSAL_LM", "data.columns": {"text": "t", "prompt": "p"}}, "found prompt, text"),
    "split": ({"split": {"validation": 0.5, "test": 0.5}}, "less than a tenth"),
    "share": ({"train.gradient_accumulation": 5}, "expected a multiple of"),
    "stop": ({"train.early_stopping.patience": 1, "train.keep": "last"}, 'needs train.keep = "best"'),
    "neither": ({"data.train": None}, "found neither"),
    "subset": ({"data.subset": "x"}, "data.subset is for data.dataset"),
    "full": ({"method.name": "full", "method.config.r": 2}, "full trains every weight"),
    "adapters": ({"method.adapters": {"a": "x", "b": "y"}}, "method.adapters is for a fusion"),
    "fusion": ({"method.name": "fusion", "method.config.of": ["a", "b"]}, "found none"),
    "fusion of text": ({"method.name": "fusion", "method.config.of": 3}, "method.config.of"),
    "head": ({"method.head": "classifier"}, 'expected "auto", "none" or a list'),
    "method": ({"method.name": "../x"}, "method.name"),
    "v": ({"v": 2}, "v"),
    "seed": ({"seed": -1}, "seed"),
    "name": ({"name": "../../elsewhere"}, "name"),
    "absolute name": ({"name": "/elsewhere"}, "name"),
    "empty key": ({"": 1}, ""),
    "dots": ({"train..epochs": 1}, "train."),
    "release": ({"release.licence": "mit"}, "did you mean 'release.license'"),
    "compare": ({"compare.lora": {"train": {"epoch": 1}}}, "compare"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_a_recipe_can_not_say(name: str) -> None:
    changes, said = WRONG[name]
    with pytest.raises(HubcliError) as caught:
        made(BARE, Path(), changes)
    assert caught.value.id == "E_RECIPE"
    assert said in f"{caught.value} {caught.value.hint}"


def test_a_written_recipe_is_the_recipe(tmp_path: Path) -> None:
    given = document(tmp_path / "base", Path("rows.csv"), train={"max_steps": 3}, name="a/b", seed=5)
    del given["train"]["epochs"]
    found = made(given, tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.toml").write_text(run_folder.written(found))
    again = read(tmp_path / "run/recipe.toml")
    assert again.train == found.train and again.method == found.method and again.seed == 5 and again.name == "a/b"
    assert again.data.train == (str(tmp_path / "rows.csv"),)
    assert run_folder.same(tmp_path / "run", found) and run_folder.same(tmp_path / "run", again)
    assert not run_folder.same(tmp_path / "run", made(given, tmp_path, {"seed": 6}))
