"""A peft folder that a person names: heads of any width, and what its config must say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from hubcli import adapt, load_adapter
from hubcli.errors import BaseNotFoundError, UnsupportedError
from tests.api.hub_repos import adapter_folder, base_folder
from tests.support.cli import hubcli

TEXTS = ["the film was superb", "dull and long", "a good score"]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {family: base_folder(root / family, family) for family in ("bert", "distilbert", "llama")}


@pytest.mark.parametrize("family", ["bert", "distilbert"])
@pytest.mark.parametrize(
    ("classes", "labels"), [(2, None), (3, None), (5, None), (2, ["no", "yes"]), (3, ["x", "y", "z"])]
)
def test_the_head_s_width(
    family: str, classes: int, labels: list[str] | None, bases: dict[str, Path], tmp_path: Path
) -> None:
    folder = adapter_folder(
        tmp_path / "mine", bases[family], str(bases[family]), family=family, classes=classes, labels=labels
    )
    plain = AutoModelForSequenceClassification.from_pretrained(bases[family], num_labels=classes)
    oracle = PeftModel.from_pretrained(plain, str(folder)).eval()
    tokens = AutoTokenizer.from_pretrained(bases[family])(TEXTS, padding=True, return_tensors="pt")
    tokens.pop("token_type_ids", None)
    with torch.no_grad():
        scores, best = oracle(**tokens).logits.softmax(-1).max(-1)
    run = hubcli("run", "./mine", *TEXTS, "--json", cwd=tmp_path)
    assert run.code == 0, run.err
    shown = labels or [f"LABEL_{i}" for i in range(classes)]
    rows = run.document["predictions"]
    assert [row["label"] for row in rows] == [shown[i] for i in best]
    assert max(abs(row["score"] - score) for row, score in zip(rows, scores.tolist(), strict=True)) <= 1e-5
    noted = hubcli("run", "./mine", TEXTS[0], cwd=tmp_path).err
    assert (f"no labels are known for its {classes} classes" in noted) is (labels is None)
    adapted = load_adapter(str(folder))
    assert adapted.adapters["mine"].labels == tuple(shown)
    assert adapted.model.config.num_labels == classes
    assert adapted.model(**tokens).logits.shape == (3, classes)
    with adapted.using(None):
        assert adapted.model(**tokens).logits.shape == (3, classes), "the base's own head is as wide"


LACKING: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "a head without a task": (
        {"task_type": None},
        1,
        "brings a head (classifier, score), but does not say for which task (no task_type in its config)",
        "pass your own model",
    ),
    "no base": ({"base_model_name_or_path": None}, 3, "does not say which base it was made for", "pass your own model"),
    "an empty base": ({"base_model_name_or_path": ""}, 3, "does not say which base it was made for", "pass your own"),
    "a base that is no name": ({"base_model_name_or_path": 5}, 4, "base_model_name_or_path: expected a model's name, found 5", ""),
    "an unknown base": ({"base_model_name_or_path": "nobody/nothing"}, 7, "and HF_HUB_OFFLINE turns the network off", "run once without HF_HUB_OFFLINE"),
    "a base folder that is gone": ({"base_model_name_or_path": "/no/such/base"}, 3, "the base /no/such/base was not found", ""),
    "an unknown kind": ({"peft_type": "MAGIC"}, 3, "no plugin reads peft configs of type 'MAGIC'", "a method is a plugin"),
    "no kind": ({"peft_type": None}, 3, "states no peft_type", "peft's format"),
}  # fmt: skip


@pytest.mark.parametrize("case", LACKING)
def test_what_a_config_lacks(case: str, bases: dict[str, Path], tmp_path: Path) -> None:
    changes, code, message, hint = LACKING[case]
    base = {"base_model_name_or_path": str(bases["bert"]), **changes}
    adapter_folder(tmp_path / "mine", bases["bert"], base.pop("base_model_name_or_path"), **base)
    run = hubcli("run", "./mine", "good", "--json", cwd=tmp_path)
    assert run.code == code, run.out
    error = run.document["error"]
    assert message in error["message"] and hint in (error["hint"] or ""), error


def test_with_the_persons_own_model_nothing_is_lacking(bases: dict[str, Path], tmp_path: Path) -> None:
    folder = adapter_folder(tmp_path / "mine", bases["bert"], None, classes=3, task_type=None)
    with pytest.raises(BaseNotFoundError, match="does not say"):
        load_adapter(str(folder))
    model = AutoModelForSequenceClassification.from_pretrained(bases["bert"])
    adapted = adapt(model, tokenizer=AutoTokenizer.from_pretrained(bases["bert"]))
    assert load_adapter(str(folder), model) is adapted
    assert adapted.predict("good")[0].label in {"LABEL_0", "LABEL_1", "LABEL_2"}


def test_a_delta_without_a_head_or_a_task(bases: dict[str, Path], tmp_path: Path) -> None:
    folder = adapter_folder(tmp_path / "mine", bases["bert"], str(bases["bert"]), task=None)
    adapted = load_adapter(str(folder))
    assert type(adapted.model).__name__ == "BertModel"
    with pytest.raises(UnsupportedError, match="has no head that predicts"):
        adapted.predict("good")


def test_labels_that_do_not_fit_are_not_used(bases: dict[str, Path], tmp_path: Path) -> None:
    odd: dict[str, list[Any]] = {"too few": ["a", "b"], "no words": [1, 2, 3]}
    for name, labels in odd.items():
        folder = adapter_folder(tmp_path / name, bases["bert"], str(bases["bert"]), classes=3, labels=labels)
        assert load_adapter(str(folder)).adapters[name].labels == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_a_head_of_words_has_no_labels(bases: dict[str, Path], tmp_path: Path) -> None:
    base = str(bases["llama"])
    folder = adapter_folder(tmp_path / "lm", bases["llama"], base, family="llama", task="CAUSAL_LM", heads=["lm_head"])
    oracle = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder)).eval()
    tokens = {"input_ids": torch.arange(4, 16).reshape(2, 6)}
    adapted = load_adapter(str(folder))
    with torch.no_grad():
        assert (adapted.model(**tokens).logits - oracle(**tokens).logits).abs().max() <= 1e-5
    info = adapted.adapters["lm"]
    assert info.heads == ("lm_head",) and info.labels is None and not info.notes
