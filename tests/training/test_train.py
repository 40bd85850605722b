"""The numbers that training finds, against a loop written by hand; and every method, measured again by other means."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import sklearn.metrics as sk
import torch
import transformers as tf
from peft import PeftModel
from safetensors.torch import load_file
from scipy import stats
from torch import Tensor

import hubcli
from hubcli.errors import UnsupportedError
from hubcli.recipe import Recipe, made
from hubcli.training.examples import load
from hubcli.training.loop import Order
from hubcli.training.setup import Setup, prepared
from hubcli.training.train import train
from tests.support import trainable
from tests.support.trainable import document, jsonl, logged, recipe

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
    parameters = setup.parameters()
    heads = {id(p) for name, p in setup.model.named_parameters() if "classifier" in name}
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


def quick(cases: Iterable[str], *fast: str) -> list[Any]:
    """The cases, all but these marked slow: each of them trains, some twice."""
    return [pytest.param(case, marks=[] if case in fast else [pytest.mark.slow]) for case in cases]


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
    "full-head-rate": {"method": "full", "train": {**LAST, "head_learning_rate": 0.05}},
    "in-order-drawn": {"train": {**LAST, "group_by_length": False}},
    "no-warm-up": {"train": {**LAST, "warmup": 0.0}, "method": "full"},
}


@pytest.mark.parametrize("mode", quick(MODES, "lora", "full"))
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


@pytest.mark.parametrize("name", quick(SHARED, "bert", "gpt2"))
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


def test_the_order_has_every_row_once_and_full_batches() -> None:
    lengths = [1 + n % 7 for n in range(103)]
    for by_length in (True, False):
        order = Order(lengths, 8, 3, by_length=by_length)
        found = []
        for epoch in (0, 1, 0):
            order.set_epoch(epoch)
            found.append(list(order))
        assert found[0] == found[2] != found[1] and len(found[0]) == len(order) == 104
        assert sorted(found[0][:103]) == list(range(103)) and found[0][103] == found[0][0]
        spread = [
            max(lengths[i] for i in rows) - min(lengths[i] for i in rows)
            for rows in (found[0][n : n + 8] for n in range(0, 96, 8))
        ]
        assert (max(spread) <= 1) == by_length
    few = Order([1, 2, 3], 8, 0, by_length=True)
    assert len(list(few)) == 8 and set(few) == {0, 1, 2}


def test_recomputed_activations_give_the_same_weights(bert: Path, rows: Path, tmp_path: Path) -> None:
    plain = train(recipe(tmp_path, bert, rows, train=LAST), tmp_path / "plain")
    saving = train(recipe(tmp_path, bert, rows, train={**LAST, "gradient_checkpointing": True}), tmp_path / "saving")
    assert apart(weights(Path(plain["path"])), weights(Path(saving["path"]))) <= EXACT


def test_the_same_recipe_gives_the_same_bytes_and_another_seed_others(bert: Path, rows: Path, tmp_path: Path) -> None:
    found = {}
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        report = train(recipe(tmp_path, bert, rows, seed=seed, train={"epochs": 1}), tmp_path / name)
        found[name] = Path(report["path"], "adapter_model.safetensors").read_bytes()
    assert found["one"] == found["two"] != found["other"]


def test_half_precision_runs_on_a_cpu(bert: Path, rows: Path, tmp_path: Path) -> None:
    plain = train(recipe(tmp_path, bert, rows, train=LAST), tmp_path / "plain")
    half = train(recipe(tmp_path, bert, rows, train={**LAST, "precision": "bf16"}), tmp_path / "half")
    one, other = weights(Path(plain["path"])), weights(Path(half["path"]))
    assert {tensor.dtype for tensor in other.values()} == {torch.float32}
    assert 1e-5 < apart(one, other) < 0.2


def test_no_interval_is_drawn_while_it_trains(
    bert: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, draw = [], stats.bootstrap
    monkeypatch.setattr(stats, "bootstrap", lambda *args, **options: drawn.append(1) or draw(*args, **options))
    train(recipe(tmp_path, bert, rows, train={"epochs": 3}), tmp_path / "run")
    assert len(drawn) == 2 * 2  # f1 and mcc of both parts, once, of what was saved


METHODS: dict[str, dict[str, Any]] = {
    "lora": {"r": 4, "target_modules": ["query", "value", "dense"]},
    "qlora": {"r": 4},
    "bottleneck": {"mh_adapter": True, "output_adapter": True, "reduction_factor": 2, "non_linearity": "gelu"},
    "prefix": {"prefix_length": 3},
    "bitfit": {},
    "full": {},
}


@pytest.mark.parametrize("method", quick(METHODS, "lora", "full"))
def test_every_method_learns_and_its_figures_are_those_of_what_was_saved(
    method: str, bases: Any, tmp_path: Path, rows: Path
) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    base = bases("wide")
    options = {
        "method": method,
        "train": {"epochs": 6, "batch_size": 8, "learning_rate": 0.003 if method == "full" else 0.02},
    }
    given = document(base, rows, **options)
    given["method"]["config"] = METHODS[method]
    found = made(given, tmp_path)
    report = train(found, tmp_path / "run")
    losses = [line["loss"] for line in logged(tmp_path / "run") if "loss" in line]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4]), losses
    assert report["parameters"]["trainable"] > report["parameters"]["head"] == 2 * 64 + 2
    assert_measured(report, load(found).parts["test"], base)


def answers_of(folder: Path, base: Path, texts: list[str]) -> Tensor:
    """Logits by the public API, or by transformers alone, one text at a time: no batch, no padding."""
    tokenizer = tf.AutoTokenizer.from_pretrained(base)
    if (folder / "config.json").exists():
        model = tf.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    elif (folder / "adapter_config.json").exists() and "r" in json.loads((folder / "adapter_config.json").read_text()):
        bare = tf.AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
        model = PeftModel.from_pretrained(bare, folder).merge_and_unload().eval()
    else:
        model = hubcli.load_adapter(
            str(folder), tf.AutoModelForSequenceClassification.from_pretrained(base, num_labels=2).eval()
        )
    with torch.no_grad():
        return torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in texts])


def assert_measured(report: dict[str, Any], test: list[Any], base: Path) -> None:
    folder, right = Path(report["path"]), [row.fields["label"] for row in test]
    if report["method"] == "qlora":
        adapted = hubcli.load_adapter(str(folder), quantize="nf4")
        said = [report["head"]["labels"].index(p.label) for p in adapted.predict([row.fields["text"] for row in test])]
    else:
        logits = answers_of(folder, base, [row.fields["text"] for row in test])
        said = logits.argmax(-1).tolist()
    figures = {row["name"]: row for row in report["metrics"] if row["split"] == "test"}
    assert figures["accuracy"]["value"] == pytest.approx(sk.accuracy_score(right, said)) and figures["accuracy"][
        "n"
    ] == len(right)
    assert figures["f1"]["value"] == pytest.approx(sk.f1_score(right, said, zero_division=0))
    assert figures["mcc"]["value"] == pytest.approx(sk.matthews_corrcoef(right, said))
    if report["method"] != "qlora":
        assert figures["loss"]["value"] == pytest.approx(
            sk.log_loss(right, logits.double().softmax(-1), labels=[0, 1]), abs=1e-5
        )


@pytest.mark.slow
def test_a_fusion_trains_over_frozen_adapters(bert: Path, rows: Path, tmp_path: Path) -> None:
    config = METHODS["bottleneck"]
    for seed, name in enumerate("ab"):
        given = document(bert, rows, method="bottleneck", seed=seed, train={"epochs": 1})
        given["method"]["config"] = config
        train(made(given, tmp_path), tmp_path / name)
    before = {name: (tmp_path / name / "adapter/adapter.safetensors").read_bytes() for name in "ab"}
    method = {"name": "fusion", "config": {"of": ["a", "b"]}, "adapters": {"a": "a/adapter", "b": "b/adapter"}}
    given = {**document(bert, rows, train={"epochs": 3, "learning_rate": 0.02, "l2": 1e-4}), "method": method}
    report = train(made(given, tmp_path), tmp_path / "run")
    assert before == {name: (tmp_path / name / "adapter/adapter.safetensors").read_bytes() for name in "ab"}
    losses = [line["loss"] for line in logged(tmp_path / "run") if "loss" in line]
    assert sum(losses[-4:]) < sum(losses[:4])
    handle = hubcli.adapt(tf.AutoModelForSequenceClassification.from_pretrained(bert, num_labels=2).eval())
    for name in "ab":
        handle.load(tmp_path / name / "adapter", name)
    fused = handle.load(Path(report["path"]), "fused")
    handle.activate(hubcli.Fuse("a", "b", by=fused))
    tokenizer = tf.AutoTokenizer.from_pretrained(bert)
    test = load(made(given, tmp_path)).parts["test"]
    with torch.no_grad():
        logits = torch.cat([handle(**tokenizer(row.fields["text"], return_tensors="pt")).logits for row in test])
    right = [row.fields["label"] for row in test]
    value = next(row["value"] for row in report["metrics"] if row["split"] == "test" and row["name"] == "loss")
    assert value == pytest.approx(sk.log_loss(right, logits.double().softmax(-1), labels=[0, 1]), abs=1e-5)


@pytest.mark.slow
def test_a_plain_trainer_on_an_adapted_model_finds_the_same(bert: Path, rows: Path, tmp_path: Path) -> None:
    found = recipe(tmp_path, bert, rows, data={"limit": {"train": 20}}, train=LAST)
    report = train(found, tmp_path / "run")
    examples = load(found)
    setup = prepared(found, examples.labels, locate=None, offline=True, token=None)
    features = setup.task.features(examples.parts["train"])
    drawn = [row for epoch in range(2) for batch in batches(found, features, epoch) for row in batch]
    args = tf.TrainingArguments(
        str(tmp_path / "plain"), max_steps=report["steps"], per_device_train_batch_size=4, learning_rate=0.01, warmup_steps=0.2,
        weight_decay=0.1, report_to=[], save_strategy="no", use_cpu=True, remove_unused_columns=False, disable_tqdm=True,
        train_sampling_strategy="sequential",
    )  # fmt: skip
    tf.Trainer(setup.model, args, train_dataset=drawn, data_collator=setup.task.collate).train()
    assert apart(weights(Path(report["path"])), kept(setup, tmp_path / "kept")) <= EXACT


def test_numbers_drawn_by_chance_are_saved_or_refused(rows: Path, tmp_path: Path) -> None:
    """A checkpoint of a masked language model has no pooler."""
    base = trainable.base(tmp_path / "base", "masked")
    with pytest.raises(UnsupportedError, match=r"no weights for bert\.pooler\.dense") as caught:
        train(recipe(tmp_path, base, rows), tmp_path / "run")
    assert caught.value.hint and 'method.head = ["bert.pooler.dense", "classifier"]' in caught.value.hint
    assert not (tmp_path / "run").exists()
    given = document(base, rows)
    given["method"]["head"] = ["bert.pooler.dense", "classifier"]
    found = made(given, tmp_path)
    report = train(found, tmp_path / "run")
    assert_measured(report, load(found).parts["test"], base)
