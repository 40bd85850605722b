"""The bundled adapter, the real MiniLM, and plain peft as the oracle."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoTokenizer, BertForSequenceClassification
from transformers.utils import logging

from hubcli.packaged_bases import hubcli_find_base_model

REF = "sentiment/bert-lora"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
LABELS = ["negative", "positive"]
TEXTS = [
    "a gripping film",
    "two hours I want back",
    "The acting is superb, and the score even better.",
    "I have seen better plots on the back of a cereal box",
    "not bad at all",
    "It is neither good nor bad; it is long.",
    "meh",
    "Dull, predictable, and far too pleased with itself " * 6,
    "¡Qué maravilla! A tiny gem — see it twice.",
    "What was the director thinking?",
    "an honest, funny and quietly devastating story",
    "A waste of a talented cast.",
]


def minilm() -> Path:
    folder = hubcli_find_base_model(MINILM, None)
    assert folder is not None
    return folder


def classifier(seed: int = 0) -> BertForSequenceClassification:
    """MiniLM with a random head of two classes."""
    logging.set_verbosity_error()
    torch.manual_seed(seed)
    return BertForSequenceClassification.from_pretrained(minilm(), num_labels=2).eval()


def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(minilm())


def peft_of(folder: Path) -> PeftModel:
    """The adapter as plain peft loads it."""
    return PeftModel.from_pretrained(classifier(), str(folder)).eval()


def second_adapter(folder: Path, seed: int = 7, **options: Any) -> Path:
    """Another LoRA of the same base and labels, random, written by peft; its config.json names the labels."""
    torch.manual_seed(seed)
    config = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=6, target_modules=["query", "dense"], **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned = get_peft_model(classifier(seed), config)
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                nn.init.normal_(parameter, std=0.05)
        tuned.peft_config["default"].base_model_name_or_path = MINILM
        tuned.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"id2label": dict(enumerate(LABELS))}))
    return folder


@dataclass
class Oracle:
    """Logits of peft models, and of weights folded by hand."""

    first: PeftModel
    second: PeftModel
    tokenizer: Any

    def inputs(self) -> dict[str, Tensor]:
        return dict(self.tokenizer(TEXTS, padding=True, return_tensors="pt"))

    def logits(self, model: nn.Module) -> Tensor:
        with torch.no_grad():
            return model(**self.inputs()).logits  # type: ignore[no-any-return]

    def folded(self, deltas: tuple[float, float], heads: tuple[float, float]) -> Tensor:
        """Both adapters' weight changes, each times a number, in one plain model; the head is a sum of the two heads."""
        model = classifier()
        with torch.no_grad():
            for tuned, share in zip((self.first, self.second), deltas, strict=True):
                for path, module in tuned.base_model.model.named_modules():
                    if hasattr(module, "get_delta_weight"):
                        model.get_submodule(path).weight += share * module.get_delta_weight("default")
            both = [tuned.base_model.model.classifier.modules_to_save["default"] for tuned in (self.first, self.second)]
            for name, own in model.classifier.named_parameters():
                own.copy_(sum(w * head.get_parameter(name) for w, head in zip(heads, both, strict=True)))
        return self.logits(model)


def answers(logits: Tensor) -> list[tuple[str, float]]:
    """Label and score of each row."""
    scores, best = logits.softmax(-1).max(-1)
    return [(LABELS[i], score) for i, score in zip(best.tolist(), scores.tolist(), strict=True)]


def apart(one: Tensor, other: Tensor) -> float:
    return (one - other).abs().max().item()


def agree(found: list[Any], expected: list[tuple[str, float]], limit: float = 1e-5) -> None:
    """The same labels in the same order, scores no further apart than `limit`; `found` has predictions or JSON rows."""
    rows = [(row["label"], row["score"]) if isinstance(row, dict) else (row.label, row.score) for row in found]
    assert [label for label, _ in rows] == [label for label, _ in expected]
    assert max(abs(a - b) for (_, a), (_, b) in zip(rows, expected, strict=True)) <= limit
