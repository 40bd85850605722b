"""A base of random numbers in a folder, wide enough for 4-bit blocks, and adapters for it made by peft."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from hubcli.adapted import Adapted, adapt
from hubcli.bases import load_base
from hubcli.manifest import BaseModel

Quantised = Callable[..., Adapted]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of width 64 with a feed-forward of 96, whose rows no block fits, and a head of 3."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=32, num_labels=3, initializer_range=0.3,
    )  # fmt: skip
    made = tmp_path_factory.mktemp("base")
    BertForSequenceClassification(config).save_pretrained(made)
    return made


@pytest.fixture
def quantised(folder: Path) -> Quantised:
    """The handle on that base as load_adapter loads it, in 4 bit unless `quantize=None`."""

    def build(quantize: str | None = "nf4", labels: int = 3, **options: Any) -> Adapted:
        names = tuple(f"LABEL_{i}" for i in range(labels))
        base = BaseModel(str(folder), architecture="BertModel")
        model, _, own = load_base(base, "text-classification", names, quantize=quantize, **options)
        return adapt(model, base=own)

    return build


@pytest.fixture(scope="session")
def peft_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA with a head, by peft, no tensor at zero."""
    made = tmp_path_factory.mktemp("adapter")
    base = BertForSequenceClassification.from_pretrained(folder, num_labels=3)
    torch.manual_seed(4)
    tuned = get_peft_model(
        base, LoraConfig(r=3, lora_alpha=5, target_modules=["query", "value", "dense"], task_type="SEQ_CLS")
    )
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    tuned.save_pretrained(made)
    return made


def inputs(rows: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(9)
    return {"input_ids": torch.randint(3, 60, (rows, 7))}


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(**copy.copy(inputs())).logits
    return found
