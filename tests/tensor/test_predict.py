"""Predictions on the real MiniLM: against transformers itself, quiet, in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hubcli.adapted import Adapted, adapt
from hubcli.bases import load_base
from hubcli.composition import BatchSplit, Parallel
from hubcli.errors import ExpressionError, UnsupportedError
from hubcli.manifest import BaseModel
from hubcli.predict import Prediction

from .models import peft_adapter

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
TEXTS = ["a gripping film", "two hours I want back " * 9, "fine", "the plot is thin, the acting good"]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("minilm")
    model, _, _ = load_base(BaseModel(MINILM), "text-classification", ("no", "yes"))
    for seed, name in enumerate("ab"):
        peft_adapter(model, root / name, "SEQ_CLS", seed, r=4, target_modules=["query", "value"])
    return {name: root / name for name in "ab"}


@pytest.fixture
def handle(folders: dict[str, Path]) -> Adapted:
    model, tokenizer, known = load_base(BaseModel(MINILM), "text-classification", ("no", "yes"))
    made = adapt(model, tokenizer=tokenizer, base=known)
    for name, folder in folders.items():
        made.load(folder, name)
    return made


def plain(handle: Adapted, text: str) -> Prediction:
    """One text at a time through the tokenizer and the model."""
    with torch.no_grad():
        scores = handle.model(**handle.tokenizer(text, return_tensors="pt")).logits[0].softmax(-1)
    return Prediction(text, ["no", "yes"][int(scores.argmax())], float(scores.max()))


def same(found: list[Any], expected: list[Prediction]) -> None:
    assert [(p.text, p.label) for p in found] == [(p.text, p.label) for p in expected]
    assert all(abs(p.score - q.score) < 1e-5 for p, q in zip(found, expected, strict=True))


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_batches_are_one_by_one(handle: Adapted, batch_size: int) -> None:
    handle.activate("a")
    handle.model.train()
    found = handle.predict(TEXTS, batch_size=batch_size)
    assert handle.model.training
    handle.model.eval()
    same(found, [plain(handle, text) for text in TEXTS])
    assert handle.predict([]) == [] and len(handle.predict("one")) == 1


def test_rows_sizes_and_children(handle: Adapted) -> None:
    alone: dict[Any, list[Prediction]] = {}
    for name in ("a", "b", None):
        with handle.using(name):
            alone[name] = [plain(handle, text) for text in TEXTS]
    rows = ["a", None, "b", "a"]
    expected = [alone[name][i] for i, name in enumerate(rows)]
    same(handle.predict(TEXTS, rows=rows, batch_size=2), expected)
    same(handle.predict(TEXTS, expr=BatchSplit("a", "b", sizes=[1, 3])), [alone["a"][0], *alone["b"][1:]])
    same(handle.predict(TEXTS, expr=Parallel("a", "b"), batch_size=2), alone["a"] + alone["b"])
    with pytest.raises(ExpressionError, match="names 1 rows, found 4 texts"):
        handle.predict(TEXTS, rows=["a"])


def test_the_pipeline_says_the_same(handle: Adapted) -> None:
    handle.activate("b")
    found = handle.pipeline()(TEXTS)
    for answer, expected in zip(found, handle.predict(TEXTS), strict=True):
        assert answer["label"] == expected.label and abs(answer["score"] - expected.score) < 1e-5


def test_loading_says_nothing(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    model, _, _ = load_base(BaseModel(MINILM), "text-classification", ("no", "maybe", "yes"), dtype="bfloat16")
    assert model.config.id2label == {0: "no", 1: "maybe", 2: "yes"} and model.dtype == torch.bfloat16
    assert capfd.readouterr() == ("", "") and not caplog.records
    with pytest.raises(UnsupportedError, match="float17"):
        load_base(BaseModel(MINILM), None, dtype="float17")


def test_what_can_not_predict_says_so(handle: Adapted) -> None:
    with pytest.raises(UnsupportedError, match="no head"):
        adapt(handle.model.bert).predict(["x"])
    handle.tokenizer = None
    with pytest.raises(UnsupportedError, match="tokenizer"):
        handle.predict(["x"])
