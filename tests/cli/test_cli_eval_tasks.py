"""hubcli eval: words, answers, tags, texts and images against plain peft, row by row."""

from __future__ import annotations

import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
import transformers as tf
from peft import LoraConfig, PeftModel, get_peft_model
from seqeval.metrics import f1_score as span_f1
from torch.nn import functional as F

from hubcli import load_adapter
from tests.api.hub_repos import TARGETS
from tests.support.cli import hubcli
from tests.support.evaluated import LABELS, figures, rows_of, table, texts

ADAPTERHUB = Path(__file__).parents[1] / "fixtures" / "adapterhub" / "bert"
pytestmark = pytest.mark.filterwarnings("ignore")


def trained(model: Any, folder: Path, base: Path, task: str | None, targets: list[str], **options: Any) -> Any:
    """A LoRA of plain peft's with no tensor at zero, saved."""
    torch.manual_seed(4)
    tuned = get_peft_model(model, LoraConfig(task_type=task, r=2, target_modules=targets, **options))
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.5)
    tuned.peft_config["default"].base_model_name_or_path = str(base)
    tuned.save_pretrained(folder)
    return tuned.eval()


def words_model(made: Path) -> tuple[Any, Any]:
    plain = tf.AutoModelForCausalLM.from_pretrained(made / "llama")
    return PeftModel.from_pretrained(plain, str(made / "words")).eval(), tf.AutoTokenizer.from_pretrained(
        made / "llama"
    )


def test_perplexity(here: Path, made: Path) -> None:
    table(here / "plays.csv", ["line"], [(text,) for text in texts(12)])
    answer = hubcli("eval", "./words", "--data", "plays.csv", "--column", "text=line", "--json")
    assert answer.code == 0, answer.err
    model, tokenizer = words_model(made)
    nats = count = 0.0
    for text in texts(12):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            logits = model(input_ids=ids).logits
        nats += float(F.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    found = figures(answer.document)
    assert found["perplexity"]["value"] == pytest.approx(math.exp(nats / count), rel=1e-5)
    assert found["loss"]["value"] == pytest.approx(nats / count, rel=1e-5)
    assert list(found) == ["perplexity", "loss"] and found["loss"]["n"] == 12


def test_exact_match_of_what_is_generated(here: Path, made: Path) -> None:
    """Every second answer is what plain peft generates, the others are not."""
    model, tokenizer = words_model(made)
    rows = []
    for at, text in enumerate(texts(8)):
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        made_up = model.generate(input_ids=ids, max_new_tokens=3, do_sample=False, pad_token_id=0)
        words = tokenizer.decode(made_up[0, ids.shape[1] :], skip_special_tokens=True)
        rows.append((text, words if at % 2 and words.strip() else "film film film film"))
    wanted = sum(answer != "film film film film" for _, answer in rows) / len(rows)
    table(here / "asked.csv", ["prompt", "answer"], rows)
    pair = ("--column", "prompt=prompt", "--column", "answer=answer")
    answer = hubcli("eval", "./words", "--data", "asked.csv", *pair, "--exact-match", "--max-answer", "3", "--json")
    assert answer.code == 0, answer.err
    found = answer.document["results"][0]["figures"][0]
    assert (found["name"], found["value"]) == ("exact_match", wanted) and wanted > 0


TEXT, PAIR = ("--column", "text=text"), ("--column", "prompt=text", "--column", "answer=label")
NO_ANSWERS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "text alone": (("./words", *TEXT, "--exact-match"), "exact_match: expected rows with answers", "prompt and answer"),
    "labels": (("./a", "--exact-match"), "exact_match: expected rows with answers to compare with, found SEQ_CLS", ""),
    "a length of no answer": (("./a", "--max-answer", "3"), "max_answer: no answer is generated", ""),
    "not asked for": (("./words", *PAIR, "--max-answer", "3"), "max_answer: no answer is generated", "--exact-match"),
    "no room for it": (("./words", *PAIR, "--exact-match", "--max-answer", "31"), "at most 1 tokens", "--max-answer"),
}


@pytest.mark.parametrize("name", NO_ANSWERS)
def test_answers_that_can_not_be_compared_are_refused(name: str, here: Path, made: Path) -> None:
    given, said, hint = NO_ANSWERS[name]
    answer = hubcli("eval", *given, "--data", "test.csv", "--json")
    assert answer.code != 0 and answer.document["error"]["id"] in ("E_USAGE", "E_DATA"), answer.err
    assert said in answer.document["error"]["message"] and hint in (answer.document["error"]["hint"] or "")


def test_a_file_in_latin_1_gets_a_hint_that_can_be_followed(here: Path, made: Path) -> None:
    (here / "test.csv").write_bytes("text,label\nun film animé,yes\nbien,no\n".encode("latin-1"))
    error = hubcli("eval", "./a", "--data", "test.csv", "--json").document["error"]
    assert error["id"] == "E_DATA" and "byte 0xe9" in error["message"]
    assert "iconv -f LATIN1 -t UTF-8" in error["hint"] and "--recipe" in error["hint"]


def test_tags_as_seqeval_says(here: Path, made: Path) -> None:
    tags = ["O", "B-X", "I-X"]
    plain = tf.AutoModelForTokenClassification.from_pretrained(made / "base", num_labels=3)
    tuned = trained(plain, here / "tags", made / "base", "TOKEN_CLS", TARGETS["bert"])
    (here / "tags" / "config.json").write_text(json.dumps({"id2label": dict(enumerate(tags))}))
    dice, rows = random.Random(2), []
    for text in texts(20):
        rows.append({"tokens": text.split(), "tags": [dice.choice(tags) for _ in text.split()]})
    (here / "tags.jsonl").write_text("\n".join(map(json.dumps, rows)))
    answer = hubcli("eval", "./tags", "--data", "tags.jsonl", "--json")
    assert answer.code == 0, answer.err
    tokenizer, predicted = tf.AutoTokenizer.from_pretrained(made / "base"), []
    for row in rows:
        ids = torch.tensor([tokenizer(row["tokens"], is_split_into_words=True)["input_ids"]])
        with torch.no_grad():
            predicted.append([tags[i] for i in tuned(input_ids=ids).logits[0].argmax(-1)])
    assert {len(row["tokens"]) for row in rows} == {len(row) for row in predicted}, "a token a word"
    found = figures(answer.document)
    assert found["f1"]["value"] == pytest.approx(span_f1([row["tags"] for row in rows], predicted))
    assert list(found)[:4] == ["f1", "precision", "recall", "accuracy"]


def test_an_adapter_s_own_tokenizer_reads(here: Path, made: Path) -> None:
    """Another order of the words: other ids, other answers."""
    asked = ("--data", "test.csv", "--json", "--no-write")
    before = hubcli("eval", "./a", *asked).document
    words = json.loads((made / "base" / "tokenizer.json").read_text())
    vocabulary = words["model"]["vocab"]
    turned = {
        word: 4 + (place - 4 + 7) % (len(vocabulary) - 4) if place > 3 else place for word, place in vocabulary.items()
    }
    words["model"]["vocab"] = turned
    (here / "a" / "tokenizer.json").write_text(json.dumps(words))
    shutil.copy(made / "base" / "tokenizer_config.json", here / "a")
    answer = hubcli("eval", "./a", *asked)
    assert answer.code == 0, answer.err
    model = PeftModel.from_pretrained(
        tf.AutoModelForSequenceClassification.from_pretrained(made / "base", num_labels=3), str(here / "a")
    ).eval()
    tokenizer, losses = tf.AutoTokenizer.from_pretrained(here / "a"), []
    for row in rows_of(here / "test.csv"):
        ids = torch.tensor([tokenizer(row["text"])["input_ids"]])
        with torch.no_grad():
            losses.append(
                float(F.cross_entropy(model(input_ids=ids).logits, torch.tensor([LABELS.index(row["label"])])))
            )
    assert figures(answer.document)["loss"]["value"] == pytest.approx(sum(losses) / len(losses), abs=1e-5)
    assert figures(before)["loss"]["value"] != pytest.approx(sum(losses) / len(losses), abs=1e-3)


@pytest.mark.parametrize("expr", ["./sst", "stack(fuse(./seq_bn, ./seq_bn_b, by=./mix), ./sst)"])
def test_a_head_of_adapterhub_s_beside_the_model(expr: str, made: Path, here: Path, tmp_path: Path) -> None:
    """The head says what for and which labels; its logits are AdapterHub's own by other tests."""
    base = shutil.copytree(ADAPTERHUB / "base", tmp_path / "hubbase")
    tf.AutoTokenizer.from_pretrained(made / "base").save_pretrained(base)
    shutil.copytree(ADAPTERHUB / "fusions" / "seq_bn,seq_bn_b", here / "mix")
    for source, name in {"sst_with_head": "sst", "seq_bn": "seq_bn", "seq_bn_b": "seq_bn_b"}.items():
        config = shutil.copytree(ADAPTERHUB / "adapters" / source, here / name) / "adapter_config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"model_name": str(base)}))
    labels = ["negative", "neutral", "positive"]
    rows = [(text, labels[i % 3]) for i, text in enumerate(texts(12))]
    table(here / "mood.csv", ["text", "label"], rows)
    answer = hubcli("eval", expr, "--data", "mood.csv", "--json", "--batch-size", "5")
    assert answer.code == 0, answer.err
    handle, losses = load_adapter(expr), []
    for text, label in rows:
        ids = torch.tensor([handle.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            losses.append(float(F.cross_entropy(handle(input_ids=ids).logits, torch.tensor([labels.index(label)]))))
    assert answer.document["task"] == "SEQ_CLS"
    assert figures(answer.document)["loss"]["value"] == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_text_to_text(here: Path, made: Path, tmp_path: Path) -> None:
    config = tf.T5Config(
        d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, vocab_size=40, decoder_start_token_id=0
    )
    torch.manual_seed(0)
    tf.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    tokenizer = tf.AutoTokenizer.from_pretrained(made / "base")
    tokenizer.save_pretrained(tmp_path / "t5")
    base = tf.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "t5")
    tuned = trained(base, here / "turn", tmp_path / "t5", "SEQ_2_SEQ_LM", ["q", "v"])
    rows, nats, count = [], 0.0, 0
    for at, text in enumerate(texts(8)):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        words = tokenizer.decode(
            tuned.generate(input_ids=ids, max_new_tokens=4, do_sample=False)[0], skip_special_tokens=True
        )
        rows.append((text, words if at % 2 and words.strip() else "film film film film film"))
        labels = torch.tensor([tokenizer(text_target=rows[-1][1])["input_ids"]])
        with torch.no_grad():
            nats += float(tuned(input_ids=ids, labels=labels).loss) * labels.numel()
        count += labels.numel()
    wanted = sum(answer != "film film film film film" for _, answer in rows) / len(rows)
    table(here / "pairs.csv", ["text", "target"], rows)
    answer = hubcli("eval", "./turn", "--data", "pairs.csv", "--max-answer", "4", "--json", "--batch-size", "3")
    assert answer.code == 0, answer.err
    found = figures(answer.document)
    assert next(iter(found)) == "exact_match" and found["exact_match"]["value"] == wanted > 0
    assert found["perplexity"]["value"] == pytest.approx(math.exp(nats / count), rel=1e-4)


def test_images_of_an_adapter_that_does_not_say_what_it_is_for(here: Path, tmp_path: Path) -> None:
    config = tf.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=8, patch_size=4,
        initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    tf.ViTModel(config).save_pretrained(tmp_path / "vit")
    processor = tf.ViTImageProcessor(size={"height": 8, "width": 8})
    processor.save_pretrained(tmp_path / "vit")
    base = tf.AutoModelForImageClassification.from_pretrained(tmp_path / "vit", num_labels=3)
    tuned = trained(base, here / "see", tmp_path / "vit", None, ["q_proj", "v_proj"], modules_to_save=["classifier"])
    (here / "see" / "config.json").write_text(json.dumps({"id2label": dict(enumerate(LABELS))}))
    dice = random.Random(6)
    rows = [
        {"image": [[dice.randrange(256) for _ in range(8)] for _ in range(8)], "label": dice.choice(LABELS)}
        for _ in range(15)
    ]
    (here / "images.jsonl").write_text("\n".join(map(json.dumps, rows)))
    refused = hubcli("eval", "./see", "--data", "images.jsonl", "--json").document["error"]
    assert "does not say for which task" in refused["message"]
    answer = hubcli("eval", "./see", "--data", "images.jsonl", "--task", "IMG_CLS", "--json")
    assert answer.code == 0, answer.err
    best = []
    for row in rows:
        pixels = np.repeat(np.asarray(row["image"], dtype="uint8")[:, :, None], 3, 2)
        with torch.no_grad():
            logits = tuned(pixel_values=processor(pixels, return_tensors="pt")["pixel_values"]).logits
        best.append(int(logits[0].argmax()))
    right = [LABELS.index(row["label"]) for row in rows]
    assert figures(answer.document)["accuracy"]["value"] == pytest.approx(sk.accuracy_score(right, best))
    assert figures(answer.document)["mcc"]["value"] == pytest.approx(sk.matthews_corrcoef(right, best))
