"""Tiny bases with tokenizers, as folders; toy data that they can learn; recipes over both."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from hubcli.recipe import Recipe, made

WORDS = [
    "good",
    "bad",
    "film",
    "book",
    "plot",
    "the",
    "a",
    "is",
    "was",
    "very",
    "not",
    "and",
    "but",
    "long",
    "short",
    "ends",
    "well",
    "slow",
    "fine",
    "dull",
    "one",
    "two",
    "three",
    "four",
    "say",
    "yes",
    "no",
    "red",
    "blue",
    "go",
    "##ing",
    "##ed",
    "##s",
    "walk",
    "talk",
    "paris",
    "rome",
    "anna",
    "bob",
    "x",
    "y",
]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<user>", "<assistant>", "<system>"]
VOCAB = 64
CHAT = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} </s> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
PLAIN = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
_LIKE_BERT = {**SIZES, **PLAIN, "vocab_size": VOCAB, "max_position_embeddings": 40, "initializer_range": 0.2}
_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
FAMILIES: dict[str, tuple[str, type, dict[str, Any]]] = {
    "bert": ("BertModel", tf.BertConfig, {**_LIKE_BERT, "pad_token_id": 0}),
    "masked": ("BertForMaskedLM", tf.BertConfig, {**_LIKE_BERT, "pad_token_id": 0}),
    "llama": (
        "LlamaForCausalLM",
        tf.LlamaConfig,
        {**SIZES, **_IDS, "num_key_value_heads": 1, "vocab_size": VOCAB, "initializer_range": 0.2},
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        tf.GPT2Config,
        {**_IDS, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": VOCAB, "resid_pdrop": 0.0,
         "attn_pdrop": 0.0, "embd_pdrop": 0.0, "initializer_range": 0.2},
    ),
    "t5": (
        "T5ForConditionalGeneration",
        tf.T5Config,
        {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "vocab_size": VOCAB, "pad_token_id": 0,
         "eos_token_id": 2, "decoder_start_token_id": 0, "dropout_rate": 0.0},
    ),
    "vit": ("ViTForImageClassification", tf.ViTConfig, {**SIZES, **PLAIN, "image_size": 8, "patch_size": 4, "initializer_range": 0.2}),
}  # fmt: skip


def tokenizer(*, bounds: bool, chat: str | None = None) -> Any:
    """WordPiece over `WORDS`; with `bounds` a text stands between <s> and </s>."""
    vocabulary = {word: id for id, word in enumerate([*SPECIAL, *WORDS])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.decoder = decoders.WordPiece(prefix="##")
    if bounds:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    found = tf.PreTrainedTokenizerFast(tokenizer_object=made, additional_special_tokens=SPECIAL[4:], **names)
    found.chat_template = chat
    return found


def base(folder: Path, family: str = "bert", *, chat: str | None = CHAT, seed: int = 0, **changes: Any) -> Path:
    """A tiny random base with its tokenizer (or image processor) in `folder`."""
    kind, config, options = FAMILIES[family]
    torch.manual_seed(seed)
    getattr(tf, kind)(config(**{**copy.deepcopy(options), **changes})).save_pretrained(folder)
    if family == "vit":
        processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}}
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    else:
        tokenizer(
            bounds=family in ("bert", "masked", "t5"), chat=chat if family in ("llama", "gpt2") else None
        ).save_pretrained(folder)
    return folder


def reviews(rows: int = 48, seed: int = 0) -> list[dict[str, str]]:
    """Texts of 3 to 9 words, all different; pos where `good` stands among them."""
    chance, found = random.Random(seed), {}
    rest = [word for word in WORDS if not word.startswith("##") and word not in ("good", "bad")]
    while len(found) < rows:
        label = ("neg", "pos")[len(found) % 2]
        words = [*chance.choices(rest, k=chance.randint(2, 8)), "good" if label == "pos" else "bad"]
        chance.shuffle(words)
        found[" ".join(words)] = label
    return [{"text": text, "label": label} for text, label in found.items()]


def jsonl(file: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def document(base: Path, rows: Path, *, task: str = "SEQ_CLS", method: str = "lora", **more: Any) -> dict[str, Any]:
    """A recipe; `more` replaces or, where both are tables, adds keys."""
    configs = {"lora": {"r": 2, "lora_dropout": 0.0}, "qlora": {"r": 2}, "prefix": {"prefix_length": 3}}
    found: dict[str, Any] = {
        "v": 1,
        "task": task,
        "base": {"id": str(base)},
        "method": {"name": method, "config": configs.get(method, {})},
        "data": {"train": str(rows)},
        "split": {"validation": 0.25, "test": 0.25},
        "train": {"epochs": 2, "batch_size": 4, "eval_batch_size": 8, "learning_rate": 0.01, "log": 1, "threads": 1},
    }
    for key, value in more.items():
        both = isinstance(value, Mapping) and key in found
        found[key] = {**found[key], **value} if both else value
    return found


def recipe(folder: Path, base: Path, rows: Path, **more: Any) -> Recipe:
    return made(document(base, rows, **more), folder)


def logged(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def recipe_text(*, epochs: int, batch_size: int) -> str:
    """A small LoRA on `acme/tiny-bert` for rows.jsonl beside it."""
    return f"""v = 1
name = "films"
task = "SEQ_CLS"
base = {{ id = "acme/tiny-bert" }}
method = {{ name = "lora", config = {{ r = 2, lora_dropout = 0.0 }} }}
data = {{ train = "rows.jsonl" }}
split = {{ validation = 0.25, test = 0.25 }}
train = {{ epochs = {epochs}, batch_size = {batch_size}, learning_rate = 0.01, threads = 1 }}
"""
