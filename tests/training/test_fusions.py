"""Fusions over adapters of any names."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers as tf

import hubcli
from hubcli.recipe import made
from hubcli.training.train import train
from tests.support.trainable import document


@pytest.mark.parametrize(
    "names", [("saved", "adapter"), ("trained", "adapter"), ("adapter", "trained", "saved", "saved-2")]
)
def test_a_fusion_is_over_adapters_of_any_names(names: tuple[str, ...], bert: Path, rows: Path, tmp_path: Path) -> None:
    """Also of those that its own adapter has while it trains, and when it is read back."""
    handle = hubcli.adapt(tf.AutoModelForSequenceClassification.from_pretrained(bert, num_labels=2))
    for name in names:
        handle.add("bottleneck", name, {"reduction_factor": 8})
        handle.save(name, tmp_path / name, "hubcli")
    method = {"name": "fusion", "config": {"of": list(names)}, "adapters": {name: name for name in names}}
    given = {**document(bert, rows, train={"epochs": 1, "max_steps": 2}), "method": method}
    given["train"].pop("epochs")
    report = train(made(given, tmp_path), tmp_path / "run")
    assert report["status"] == "done" and {row["split"] for row in report["metrics"]} == {"validation", "test"}
