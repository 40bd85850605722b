"""What is made ready before anything trains: the base's tools, and the rows of every part."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from tokenizers import normalizers

from hubcli.errors import BaseNotFoundError, HubcliError, UsageError
from hubcli.method import HubcliWarning
from hubcli.recipe import Recipe, made
from hubcli.schema import check
from hubcli.training import run_folder
from hubcli.training.examples import Example
from hubcli.training.setup import Setup, prepared
from hubcli.training.tasks import TASKS, Tools
from hubcli.training.train import train
from tests.support import trainable
from tests.support.trainable import document, jsonl, reviews


def ready(recipe: Recipe, *labels: str) -> Setup:
    return prepared(recipe, labels, locate=None, offline=True, token=None)


def test_code_beside_a_tokenizer_or_processor_is_not_offered_to_be_run(
    bert: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *said: pytest.fail(f"asked: {said}"))
    evil, base = tmp_path / "evil", trainable.base(tmp_path / "vit", "vit")
    evil.mkdir()
    auto_map = {"AutoTokenizer": ["evil.Evil", None], "AutoImageProcessor": "evil.Evil"}
    (evil / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Evil", "auto_map": auto_map}))
    (base / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "Evil", "auto_map": auto_map}))
    for folder in (evil, base):
        (folder / "evil.py").write_text("raise SystemExit('run')\n")
    with pytest.raises(BaseNotFoundError, match="can't be loaded as AutoTokenizer"):
        ready(made({**document(bert, rows), "base": {"id": str(bert), "tokenizer": str(evil)}}, tmp_path), "neg", "pos")
    with pytest.raises(Exception, match="no image processor"):
        ready(made(document(base, rows, task="IMG_CLS"), tmp_path), "neg", "pos")


ANSWERED = {"columns": {"prompt": "prompt", "answer": "answer"}}
TURNS = [{"role": "user", "content": "is paris red"}, {"role": "assistant", "content": "no"}]
ASKED = [{"prompt": "bob " * n + "is", "answer": "good film"} for n in range(1, 9)]
IMAGES = [{"image": [[n, 0], [0, n]], "label": n % 2} for n in range(8)]
SPOKEN = [{"messages": TURNS} for _ in range(8)]
# base, task, rows of train and validation, the row of test that can't be used, keys of data and train, what is said
LATE: dict[str, tuple[str, str, list[Any], Any, dict[str, Any], dict[str, Any], str]] = {
    "a prompt that leaves no answer": (
        "llama", "CAUSAL_LM", ASKED, {"prompt": "bob " * 30, "answer": "yes"}, ANSWERED, {"max_length": 20},
        "test.jsonl:1: expected at most 19 tokens before the answer, found 31",
    ),
    "a prompt that leaves no place": (
        "gpt2", "CAUSAL_LM", ASKED, {"prompt": "bob " * 30, "answer": "yes"}, ANSWERED, {"max_answer": 40, "metric": "exact_match"},
        "test.jsonl:1: expected at most 24 tokens before the answer, found 31",
    ),
    "no image": ("vit", "IMG_CLS", IMAGES, {"image": "none.png", "label": 0}, {}, {}, "test.jsonl:1: the image can't be read"),
    "an assistant first": (
        "llama", "CAUSAL_LM", SPOKEN, {"messages": TURNS[1:]}, {"columns": {"messages": "messages"}}, {},
        "test.jsonl:1: the tokenizer's chat template can't lay this conversation out (no turn before the first answer)",
    ),
}  # fmt: skip


def in_parts(base: Path, folder: Path, task: str, rows: list[Any], last: list[Any], **more: Any) -> Recipe:
    """A recipe over files: train and validation are half of `rows` each, test is `last`."""
    files = {"train": rows[::2] + rows[1::4], "validation": rows[3::4] or rows[:2], "test": last}
    data = {part: str(jsonl(folder / f"{part}.jsonl", own)) for part, own in files.items()}
    return made(document(base, folder, task=task, **{**more, "data": {**more.get("data", {}), **data}}), folder)


@pytest.mark.parametrize("name", LATE)
def test_a_row_that_can_not_be_measured_is_told_before_anything_trains(
    name: str, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    family, task, rows, wrong, data, options, said = LATE[name]
    (tmp_path / "none.png").write_bytes(b"no image")
    method = "full" if family == "vit" else "lora"
    found = in_parts(
        bases(family), tmp_path, task, rows, [wrong], data=data, train={"epochs": 1, **options}, method=method
    )
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        train(found, tmp_path / "run")
    assert caught.value.id == "E_DATA" and not (tmp_path / "run").exists()


def test_a_template_that_refuses_says_which_row(tmp_path: Path, bases: Callable[[str], Path]) -> None:
    chat = "{{ raise_exception('System role not supported') if messages[0].role == 'system' }}" + trainable.CHAT
    system = [{"role": "system", "content": "say yes"}, *TURNS]
    rows = [Example({"messages": turns}, f"rows:{n}") for n, turns in enumerate((TURNS, system), 1)]
    own = trainable.tokenizer(bounds=False, chat=chat)
    with pytest.raises(UsageError, match=r"rows:2: .* \(system, user\)") as caught:
        TASKS["CAUSAL_LM"](Tools(config=None, tokenizer=own)).features(rows)
    assert caught.value.cause == "System role not supported"


def test_rows_that_lose_their_end_are_counted_and_warned_of_before(bert: Path, rows: Path, tmp_path: Path) -> None:
    """The base has 40 places: longer rows, of which one stands in test, would fail in it."""
    long = [{"text": "good film " * 30, "label": "pos"}, *reviews(4)]
    found = in_parts(bert, tmp_path, "SEQ_CLS", reviews(24), long, train={"epochs": 1})
    said: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.showwarning = lambda message, *rest: said.append(
            f"{message} {(tmp_path / 'run' / 'run.json').exists()}"
        )
        warnings.simplefilter("always", HubcliWarning)
        report = train(found, tmp_path / "run")
    ours = [text for text in said if "lose" in text]
    assert ours == [
        f"test: 1 row of more than 40 tokens, what this base reads, lose their end: {tmp_path}/test.jsonl:1 False"
    ]
    assert report["cut"] == {"train": 0, "validation": 0, "test": 1}
    written = run_folder.read(tmp_path / "run")
    assert written is not None and written["cut"] == report["cut"] and not check(written, "cli/train")


CUT: dict[str, tuple[str, str, list[dict[str, Any]], list[str]]] = {
    "SEQ_CLS": ("bert", "AutoModelForSequenceClassification", [{"text": "x " * n, "label": 0} for n in (6, 7)], ["rows:2"]),
    "pairs": ("bert", "AutoModelForSequenceClassification",
              [{"text": "x " * n, "text_pair": "x", "label": 0} for n in (4, 5)], ["rows:2"]),
    "TOKEN_CLS": ("bert", "AutoModelForTokenClassification",
                  [{"tokens": ["x"] * n, "tags": [0] * n} for n in (6, 7)], ["rows:2"]),
    "SEQ_2_SEQ_LM": ("t5", "AutoModelForSeq2SeqLM",
                     [{"text": "x " * n, "target": "x " * m} for n, m in ((6, 6), (6, 7), (7, 6))], ["rows:2", "rows:3"]),
    "CAUSAL_LM": ("llama", "AutoModelForCausalLM",
                  [{"prompt": "x " * 4, "answer": "x " * n} for n in (2, 3)], ["rows:2"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CUT)
def test_the_rows_that_lose_tokens_are_known(name: str, bases: Callable[[str], Path]) -> None:
    family, _, rows, lost = CUT[name]
    own = tf.AutoTokenizer.from_pretrained(bases(family))
    task = TASKS["SEQ_CLS" if name == "pairs" else name](Tools(config=None, tokenizer=own, max_length=8))
    examples = [Example(row, f"rows:{n}") for n, row in enumerate(rows, 1)]
    assert task.keep(examples) == lost
    assert task.features(examples) == [f for row in examples for f in task.features([row])] and len(
        task.features(examples)
    ) == len(rows)


def test_a_part_of_a_step_may_have_no_label(bases: Callable[[str], Path], tmp_path: Path) -> None:
    """Words that a tokenizer makes nothing of have no label that counts."""
    rows = [
        {"tokens": ["\ufe0f"] if n % 2 else ["anna", "paris"], "tags": ["A"] if n % 2 else ["A", "P"]}
        for n in range(16)
    ]
    base = trainable.base(tmp_path / "base")
    own = tf.AutoTokenizer.from_pretrained(base)
    own.backend_tokenizer.normalizer = normalizers.Replace("\ufe0f", "")
    own.save_pretrained(base)
    options = {"epochs": 1, "batch_size": 4, "gradient_accumulation": 4, "group_by_length": False}
    found = in_parts(base, tmp_path, "TOKEN_CLS", rows, rows[:4], train=options)
    report = train(found, tmp_path / "run")
    losses = [line["loss"] for line in trainable.logged(tmp_path / "run") if "loss" in line]
    assert report["status"] == "done" and all(map(math.isfinite, losses))


EARLY: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "nothing to stop by": (
        {"early_stopping": {"patience": 1}},
        {},
        "train.early_stopping: there are no validation rows",
    ),
    "no such device": ({"precision": "bf16"}, {"device": "cuda"}, "device 'cuda' can't be used here"),
    "another device": ({}, {"device": "cuda:1"}, 'base.device: expected a kind of device, found "cuda:1"'),
    "a processor": ({}, {"device": "cpu:0"}, 'base.device: expected a kind of device, found "cpu:0"'),
}


@pytest.mark.parametrize("name", EARLY)
def test_what_can_not_be_done_is_refused_before_the_base_is_loaded(name: str, rows: Path, tmp_path: Path) -> None:
    if name == "no such device" and torch.cuda.is_available():
        pytest.skip("this machine has one")
    options, base, said = EARLY[name]
    given = document(tmp_path / "no base", rows, train=options, split={"validation": 0.0})
    with pytest.raises(HubcliError, match=re.escape(said)):
        train(made({**given, "base": {**given["base"], **base}}, tmp_path), tmp_path / "run")


def test_the_image_processor_is_that_of_the_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, asked = trainable.base(tmp_path / "vit", "vit"), []
    own = tf.AutoImageProcessor.from_pretrained
    note = lambda where, **options: asked.append(options) or own(where)  # noqa: E731
    monkeypatch.setattr(tf.AutoImageProcessor, "from_pretrained", note)
    given: dict[str, Any] = document(base, tmp_path / "rows.jsonl", task="IMG_CLS", method="full")
    ready(made({**given, "base": {"id": str(base), "revision": "v2"}}, tmp_path), "neg", "pos")
    assert [options["revision"] for options in asked] == ["v2"]
    assert asked[0]["trust_remote_code"] is False
