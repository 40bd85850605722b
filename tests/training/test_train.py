"""The numbers that training finds, against a loop written by hand; and every method, measured again by other means."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hubcli.recipe import Recipe
from hubcli.training.examples import load
from hubcli.training.loop import Order
from hubcli.training.setup import Setup, prepared
from hubcli.training.train import train
from tests.support.trainable import jsonl, logged, recipe

EXACT = 2e-6  # what the order of sums may move a weight of about 1


def weights(folder: Path) -> dict[str, Tensor]:
    (file,) = sorted(folder.glob("*.safetensors"))
    return load_file(file)


def apart(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    assert one.keys() == other.keys() and len(one)
    return max(float((one[key].double() - other[key].double()).abs().max()) for key in one)


def batches(recipe: Recipe, features: list[Any], epoch: int) -> list[list[Any]]:
    size = recipe.train.batch_size
    order = Order([len(f["input_ids"]) for f in features], size, recipe.seed, by_length=recipe.train.group_by_length)
    order.set_epoch(epoch)
    rows = list(order)
    return [[features[i] for i in rows[at : at + size]] for at in range(0, len(rows), size)]


def by_hand(
    recipe: Recipe, folder: Path, schedule: Callable[[int, int, int], float] | None = None
) -> dict[str, Tensor]:
    """The recipe's training as anyone would write it: AdamW, linear warm-up and decay, clipping, mean loss of a batch."""
    spec, examples = recipe.train, load(recipe)
    setup = prepared(recipe, examples.labels, locate=None, offline=True, token=None)
    features = setup.task.features(examples.parts["train"])
    parameters, heads = setup.parameters(), setup.heads()
    rate = lambda p: spec.head_learning_rate if id(p) in heads and spec.head_learning_rate else spec.learning_rate  # noqa: E731
    groups = [
        {"params": [p], "lr": rate(p), "weight_decay": spec.weight_decay if p.ndim > 1 else 0.0} for p in parameters
    ]
    optimiser = torch.optim.AdamW(groups, eps=1e-8)
    rates, step = [group["lr"] for group in groups], 0
    total = len(batches(recipe, features, 0)) * int(spec.epochs)
    warm = math.ceil(total * spec.warmup)
    setup.model.train()
    for epoch in range(int(spec.epochs)):
        for batch in batches(recipe, features, epoch):
            factor = step / warm if step < warm else (total - step) / (total - warm)
            for group, start in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = start * factor
            loss = setup.model(**setup.task.collate(batch)).loss
            optimiser.zero_grad()
            loss.backward()
            for parameter in parameters:
                if spec.l2 and parameter.grad is not None:
                    parameter.grad += 2 * spec.l2 * parameter.detach()
            torch.nn.utils.clip_grad_norm_(parameters, spec.max_grad_norm)
            optimiser.step()
            step += 1
    return kept(setup, folder)


def kept(setup: Setup, folder: Path) -> dict[str, Tensor]:
    if setup.handle is None:
        setup.model.save_pretrained(folder)
    else:
        setup.handle.save(setup.name, folder, "peft")
    return weights(folder)


LAST = {"keep": "last", "warmup": 0.2, "weight_decay": 0.1}
MODES: dict[str, dict[str, Any]] = {
    "lora": {"train": LAST},
    "full": {"method": "full", "train": LAST},
    "l2": {"train": {**LAST, "l2": 0.03}},
    "head-rate": {"train": {**LAST, "head_learning_rate": 0.05}},
    "in-order-drawn": {"train": {**LAST, "group_by_length": False}},
    "no-warm-up": {"train": {**LAST, "warmup": 0.0}, "method": "full"},
}


@pytest.mark.parametrize("mode", MODES)
def test_a_loop_by_hand_finds_the_same_weights(mode: str, bert: Path, rows: Path, tmp_path: Path) -> None:
    found = recipe(tmp_path, bert, rows, **MODES[mode])
    report = train(found, tmp_path / "run")
    expected = by_hand(found, tmp_path / "expected")
    assert apart(weights(Path(report["path"])), expected) <= EXACT


TALK = [
    {"prompt": "bob " * n, "answer": " ".join(["good film " * (1 + n % 4), "the end"[: 3 * (n % 2)]]).strip()}
    for n in range(1, 25)
]
TARGETS = [{"text": "bob " * n, "target": "good film " * (1 + n % 4)} for n in range(1, 25)]
TAGGED = [{"tokens": ["anna", *["walk"] * (n % 5), "paris"], "tags": ["A", *["O"] * (n % 5), "P"]} for n in range(24)]
COLUMNS = {"columns": {"prompt": "prompt", "answer": "answer"}}
NONE = {"validation": 0.0, "test": 0.0, "by": "random"}
SHARED: dict[str, tuple[str, list[dict[str, Any]] | None, dict[str, Any]]] = {
    "bert": ("bert", None, {}),
    "bert-full": ("bert", None, {"method": "full"}),
    "bert-l2": ("bert", None, {"train": {**LAST, "l2": 0.5, "max_grad_norm": 0}}),
    "bert-tokens": ("bert", TAGGED, {"task": "TOKEN_CLS"}),
    "gpt2": ("gpt2", TALK, {"task": "CAUSAL_LM", "data": COLUMNS}),
    "gpt2-text": ("gpt2", [{"text": row["target"]} for row in TARGETS], {"task": "CAUSAL_LM"}),
    "llama": ("llama", TALK, {"task": "CAUSAL_LM", "data": COLUMNS}),
    "t5": ("t5", TARGETS, {"task": "SEQ_2_SEQ_LM"}),
}


@pytest.mark.parametrize("name", SHARED)
def test_parts_of_a_batch_are_the_batch(name: str, bases: Any, rows: Path, tmp_path: Path) -> None:
    """Gradient accumulation, where the model's loss takes the number of labels and where it does not."""
    family, data, more = SHARED[name]
    file = rows if data is None else jsonl(tmp_path / "rows.jsonl", data)
    start = {"epochs": 1, "batch_size": 8, "optimiser": "sgd", "learning_rate": 0.1, "max_grad_norm": 0}
    options = {**more, "split": NONE, "train": {**LAST, **start, **more.get("train", {})}}
    once = train(recipe(tmp_path, bases(family), file, **options), tmp_path / "once")
    parted = {**options, "train": {**options["train"], "gradient_accumulation": 4}}
    report = train(recipe(tmp_path, bases(family), file, **parted), tmp_path / "parted")
    assert report["steps"] == once["steps"]
    one, other = weights(Path(once["path"])), weights(Path(report["path"]))
    assert apart(one, other) <= EXACT
    losses = [[line["loss"] for line in logged(tmp_path / run) if "loss" in line] for run in ("once", "parted")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
