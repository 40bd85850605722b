"""Tiny bases and peft adapters as folders, ready to be put on a hub."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers as tf
import transformers.utils.hub
from huggingface_hub import constants, hf_api
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn

from tests.support.hub_server import LiveHub

WORDS = [
    "a",
    "the",
    "film",
    "plot",
    "is",
    "was",
    "good",
    "bad",
    "dull",
    "superb",
    "long",
    "short",
    "and",
    "not",
    "very",
    "story",
    "score",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24, "max_position_embeddings": 32}
CONFIGS: dict[str, Any] = {
    "bert": lambda **changes: tf.BertConfig(
        **{"vocab_size": 40, "num_attention_heads": 2, "initializer_range": 0.4, **SIZES, **changes}
    ),
    "llama": lambda **changes: tf.LlamaConfig(
        **{"vocab_size": 40, "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.4, **SIZES},
        **{"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, **changes},
    ),
    "distilbert": lambda **changes: tf.DistilBertConfig(
        vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=32, initializer_range=0.4, **changes
    ),
}  # fmt: skip
TARGETS = {"bert": ["query", "value"], "llama": ["q_proj", "down_proj"], "distilbert": ["q_lin", "v_lin"]}
AUTO = {"SEQ_CLS": tf.AutoModelForSequenceClassification, "CAUSAL_LM": tf.AutoModelForCausalLM, None: tf.AutoModel}


def base_folder(folder: Path, family: str = "bert", seed: int = 0, **changes: Any) -> Path:
    """A random base with its tokenizer; the bare model, or the language model of a causal family."""
    torch.manual_seed(seed)
    made = tf.AutoModelForCausalLM if family == "llama" else tf.AutoModel
    made.from_config(CONFIGS[family](**changes)).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*SPECIAL, *WORDS])}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tf.PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=32, **special).save_pretrained(folder)
    return folder


def adapter_folder(
    folder: Path, base: Path, base_id: str | None, *, family: str = "bert", task: str | None = "SEQ_CLS", classes: int = 2,
    seed: int = 1, labels: list[str] | None = None, heads: list[str] | None = None, **config: Any,
) -> Path:  # fmt: skip
    """A LoRA written by peft, no tensor of it at zero; `config` overwrites keys of its config file."""
    torch.manual_seed(seed)
    options = {"num_labels": classes} if task == "SEQ_CLS" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AUTO[task].from_pretrained(base, **options)
        tuned = get_peft_model(
            model, LoraConfig(task_type=task, r=3, lora_alpha=5, target_modules=TARGETS[family], modules_to_save=heads)
        )
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.4)
        tuned.save_pretrained(folder)
    document = json.loads((folder / "adapter_config.json").read_text())
    document |= {"base_model_name_or_path": base_id, **config}
    (folder / "adapter_config.json").write_text(json.dumps(document, indent=2))
    if labels:
        (folder / "config.json").write_text(json.dumps({"id2label": {str(i): name for i, name in enumerate(labels)}}))
    return folder


def at_hub(patch: Any, hub: LiveHub, home: Path) -> None:
    """Make this hub the person's own for the client in this process, which reads most of it once, at import."""
    patch.setenv("HF_ENDPOINT", hub.url)
    patch.setattr(constants, "ENDPOINT", hub.url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    patch.setattr(hf_api.api, "endpoint", hub.url)
    patch.setattr(tf.utils.hub, "_hf_api", None)


def off_line(patch: Any) -> None:
    """The network off again, as by HF_HUB_OFFLINE in a new process."""
    patch.setenv("HF_HUB_OFFLINE", "1")
    patch.setattr(constants, "HF_HUB_OFFLINE", True)
