"""Checkpoints that are equally good by the metric: the first is kept, and a later one that loses less is told of."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from hubcli.method import HubcliWarning
from hubcli.training.callbacks import tied
from hubcli.training.train import train
from tests.support.trainable import jsonl, logged, recipe, reviews


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ([(1.0, 0.6), (1.0, 0.1), (1.0, 0.2)], "3 checkpoints are equal in accuracy (1): the first, of step 1"),
        ([(0.5, 0.6), (1.0, 0.3), (1.0, 0.4)], None),
        ([(0.5, 0.6), (1.0, 0.3), (0.9, 0.1)], None),
        ([], None),
    ],
)
def test_what_is_said_of_ties(figures: list[tuple[float, float]], said: str | None) -> None:
    history = [{"step": n, "eval_accuracy": a, "eval_loss": loss} for n, (a, loss) in enumerate(figures, 1)]
    best = max(range(len(figures)), key=lambda at: figures[at][0], default=0) + 1
    found = tied(SimpleNamespace(log_history=[{"step": 1, "loss": 9.0}, *history], best_global_step=best), "accuracy")
    assert found is None if said is None else str(found).startswith(said) and "of step 2 has a lower loss" in str(found)


def test_a_training_tells_of_ties(bert: Path, tmp_path: Path) -> None:
    few = jsonl(tmp_path / "few.jsonl", reviews(4))
    options = {"train": {"epochs": 12, "batch_size": 2, "learning_rate": 0.01}, "split": {"test": 0.0}}
    found = recipe(tmp_path, bert, few, data={"validation": str(few)}, method="full", **options)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        report = train(found, tmp_path / "run")
    lines = [line for line in logged(tmp_path / "run") if line.get("eval_accuracy") == report["best"]["value"]]
    assert (
        report["best"]["step"] == lines[0]["step"] and min(line["eval_loss"] for line in lines) < lines[0]["eval_loss"]
    )
    assert [one for one in told if issubclass(one.category, HubcliWarning) and "a lower loss" in str(one.message)]
