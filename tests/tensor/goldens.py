"""AdapterHub's goldens: where they lie, and its tiny BERT with adapters that bring heads."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from hubcli.adapted import Adapted, adapt

FIXTURES = Path(__file__).parents[1] / "fixtures" / "adapterhub"
GOLDENS = Path(os.environ.get("HUBCLI_GOLDENS") or FIXTURES)
BARE = {"bert": tf.BertModel, "distilbert": tf.DistilBertModel, "gpt2": tf.GPT2Model}
BERT = FIXTURES / "bert"
INPUTS = load_file(BERT / "inputs.safetensors")
HEADS = load_file(BERT / "heads.safetensors")
LABELS = {"sst": ("negative", "neutral", "positive"), "multi": ("joy", "anger", "fear", "love"), "tag": ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"), "span": ()}  # fmt: skip
TEXTS = ["w5 w6 w7", "w8", "w9 w10 w11 w12 w13"]


def folder(name: str) -> Path:
    return BERT / "adapters" / {"sst": "sst_with_head"}.get(name, name)


def handle(*names: str, made: type = tf.BertModel) -> Adapted:
    torch.manual_seed(1)
    given = adapt(made.from_pretrained(BERT / "base").eval())  # type: ignore[attr-defined]
    for name in names:
        given.load(folder(name), name)
    return given


def rival(given: Adapted, tmp_path: Path, name: str = "rival", num_labels: int = 3, seed: int = 2) -> str:
    """A second adapter with a head of the same kind, of other numbers."""
    target = tmp_path / name
    given.save("sst", target, format="adapterhub")
    config = json.loads((target / "head_config.json").read_text())
    torch.manual_seed(seed)
    tensors = {
        key: torch.randn_like(tensor) * 0.2 for key, tensor in load_file(target / "model_head.safetensors").items()
    }
    if num_labels != 3:
        config["config"].update(num_labels=num_labels, label2id=None)
        tensors["heads.sst.4.weight"] = torch.randn(num_labels, 48)
        tensors["heads.sst.4.bias"] = torch.randn(num_labels)
    (target / "head_config.json").write_text(json.dumps(config))
    save_file(tensors, target / "model_head.safetensors")
    weights = {key: torch.randn_like(tensor) * 0.2 for key, tensor in load_file(target / "adapter.safetensors").items()}
    save_file(weights, target / "adapter.safetensors")
    return given.load(target)


def logits(given: Adapted, expr: Any = None, rows: Any = None, **inputs: Any) -> Any:
    with torch.no_grad():
        return given(**(inputs or INPUTS), expr=expr, rows=rows).logits


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[PAD]", "[UNK]", *(f"w{i}" for i in range(118))]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    return tf.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", model_max_length=16)
