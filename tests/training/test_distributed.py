"""Two processes on a CPU, started by accelerate: the weights of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from safetensors.torch import load_file
from transformers import TrainingArguments

from hubcli.recipe import made
from hubcli.training.train import train
from tests.support.cli import check
from tests.support.trainable import document, jsonl, logged, reviews

TALK = [{"prompt": "bob " * n, "answer": "good film " * (1 + 3 * (n % 2)) + "end"} for n in range(1, 26)]
ROWS = reviews(45)  # batches of 8 that don't come out even, nor do the parts that are measured
RUNS: dict[str, tuple[str, list[Any], dict[str, Any]]] = {
    "lora": ("bert", ROWS, {"train": {"l2": 0.01, "gradient_accumulation": 2}}),
    # by Adam, numbers whose true gradient is zero (the bias of keys) would move by what rounding leaves of it
    "full": ("bert", ROWS, {"method": "full", "train": {"optimiser": "sgd", "learning_rate": 0.05, "evaluate": 2}}),
    "answers": ("gpt2", TALK, {"task": "CAUSAL_LM", "data": {"columns": {"prompt": "prompt", "answer": "answer"}}}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_as_one(name: str, bases: Any, tmp_path: Path) -> None:
    family, rows, options = RUNS[name]
    more = {**options, "train": {"batch_size": 8, "keep": "last", **options.get("train", {})}}
    given = document(bases(family), jsonl(tmp_path / "rows.jsonl", rows), **more)
    (tmp_path / "recipe.toml").write_text(tomli_w.dumps(given))
    launch = [
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
    ]
    words = ("train", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "two"), "--json")
    done = subprocess.run(
        [sys.executable, *launch, "--main_process_port", "0", "-m", "hubcli", *words],
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "MASTER_ADDR": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    two = check(words, done.stdout)
    one = train(made(given, tmp_path), tmp_path / "one")
    found, expected = (load_file(next(Path(run["path"]).glob("*.safetensors"))) for run in (two, one))
    assert found.keys() == expected.keys()
    assert max(float((found[key] - expected[key]).abs().max()) for key in found) <= 2e-5
    assert two["steps"] == one["steps"] and two["rows"] == one["rows"]
    assert [figure["value"] for figure in two["metrics"]] == pytest.approx(
        [figure["value"] for figure in one["metrics"]], abs=1e-4
    )
    losses = [[line["loss"] for line in logged(tmp_path / run) if "loss" in line] for run in ("two", "one")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert json.loads((tmp_path / "two/run.json").read_text()) == two


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_each_process_draws_by_chances_of_its_own(rank: int, bert: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """The first one's are those of a process that trains alone."""
    from hubcli.training import train as training

    drawn = []

    def stop(self: Any, **how: Any) -> None:
        drawn.append(torch.initial_seed())
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingArguments, "process_index", rank)
    monkeypatch.setattr(training.Loop, "train", stop)
    found = made(document(bert, jsonl(tmp_path / "rows.jsonl", ROWS), seed=7), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(found, tmp_path / "run")
    assert drawn == [7 + rank]
