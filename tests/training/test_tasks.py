"""What rows become, and how answers are read: against sums and calls made one row at a time."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from PIL import Image

from hubcli.errors import UnsupportedError, UsageError
from hubcli.training import early
from hubcli.training.examples import Example
from hubcli.training.tasks import TASKS, Task, Tools
from tests.support.trainable import CHAT, reviews, tokenizer

Bases = Callable[[str], Path]
LABELS = ("neg", "pos")


def examples(*rows: dict[str, Any]) -> list[Example]:
    return [Example(row, f"rows:{n}") for n, row in enumerate(rows, 1)]


def lab(bases: Bases, family: str, kind: str, name: str, **options: Any) -> tuple[Task, Any]:
    """A task and the model that it asks."""
    torch.manual_seed(0)
    more = {"num_labels": options.get("classes", 2)} if kind.endswith("Classification") else {}
    model = getattr(tf, kind).from_pretrained(bases(family), **more).eval()
    own = tf.AutoTokenizer.from_pretrained(bases(family)) if family != "vit" else None
    tools = {"labels": LABELS, "tokenizer": own, **{k: v for k, v in options.items() if k != "classes"}}
    return TASKS[name](Tools(config=model.config, **tools)), model


def asked(task: Task, model: Any, rows: Sequence[Example], size: int = 4) -> list[Any]:
    with torch.no_grad():
        return task.answers(model, rows, size)


def figures(task: Task, rows: Sequence[Example], answers: Sequence[Any]) -> dict[str, float]:
    found = {figure.name: figure.value for figure in task.figures(rows, answers)}
    assert set(found) <= set(early.names(task.name, task.tools.labels)) and task.first in found
    if task.name in ("SEQ_CLS", "TOKEN_CLS", "IMG_CLS") or task.tools.compares:
        assert set(found) == set(early.names(task.name, task.tools.labels))
    return found


@pytest.mark.parametrize("pair", [False, True])
def test_texts_are_classified(pair: bool, bases: Bases) -> None:
    task, model = lab(bases, "bert", "AutoModelForSequenceClassification", "SEQ_CLS", max_length=12)
    more = {"text_pair": "bob walk walked"} if pair else {}
    rows = examples(*({"text": row["text"], **more, "label": n % 2} for n, row in enumerate(reviews(10))))
    own, total, right = task.tools.tokenizer, 0.0, 0
    for row in rows:
        given = own(row.fields["text"], more.get("text_pair"), truncation=True, max_length=12, return_tensors="pt")
        given.pop(
            "token_type_ids"
        ) if "token_type_ids" in given and "token_type_ids" not in own.model_input_names else None
        with torch.no_grad():
            output = model(**given, labels=torch.tensor([row.fields["label"]]))
        total += float(output.loss)
        right += int(output.logits.argmax()) == row.fields["label"]
    found = figures(task, rows, asked(task, model, rows))
    assert found["accuracy"] == right / 10 and found["loss"] == pytest.approx(total / 10, abs=1e-5)


def test_words_are_tagged_by_their_first_tokens_and_those_cut_off_are_wrong(bases: Bases) -> None:
    tags = ("O", "B-X", "I-X")
    task, model = lab(
        bases, "bert", "AutoModelForTokenClassification", "TOKEN_CLS", max_length=8, labels=tags, classes=3
    )
    words = [
        ["anna", "walking", "walked", "bob"],
        ["bob", "talks", "walking", "paris", "walking", "rome", "anna"],
        ["x"],
    ]
    given = [[1, 0, 2, 1], [1, 2, 0, 1, 0, 1, 2], [0]]
    rows = examples(*({"tokens": w, "tags": t} for w, t in zip(words, given, strict=True)))
    features = task.features(rows)
    ids = task.tools.tokenizer.convert_tokens_to_ids
    assert features[0]["input_ids"] == [
        1,
        ids("anna"),
        ids("walk"),
        ids("##ing"),
        ids("walk"),
        ids("##ed"),
        ids("bob"),
        2,
    ]
    assert features[0]["labels"] == [-100, 1, 0, -100, 2, -100, 1, -100]
    assert features[1]["labels"] == [-100, 1, 2, -100, 0, -100, 1, -100]
    said = asked(task, model, rows)
    with torch.no_grad():
        best = model(input_ids=torch.tensor([features[1]["input_ids"]])).logits[0].argmax(-1).tolist()
    assert said[1][0] == [best[1], best[2], best[4], best[6], 0, 0, 0]
    assert figures(task, rows, said)["accuracy"] == pytest.approx(
        sum(a == b for row, (answer, _) in zip(given, said, strict=True) for a, b in zip(row, answer, strict=True)) / 12
    )


TEXTS = ["good film", "anna walked and bob talks very slow the end is well " * 3, "x", "bob is good " * 7]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_no_token_of_a_text_is_lost_or_counted_twice(family: str, bases: Bases) -> None:
    task, model = lab(bases, family, "AutoModelForCausalLM", "CAUSAL_LM", max_length=9)
    rows = examples(*({"text": text} for text in TEXTS))
    nats, count = [], []
    for text in TEXTS:
        ids = [*task.tools.tokenizer(text)["input_ids"], 2]
        lost = 0.0
        for at in range(1, len(ids)):  # token by token: what stands before it in its own piece
            start = (at - 1) // 8 * 8
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids[start:at]])).logits[0, -1]
            lost -= float(logits.log_softmax(-1)[ids[at]])
        nats.append(lost)
        count.append(len(ids) - 1)
    said = asked(task, model, rows)
    assert [row[1] for row in said] == count and [row[0] for row in said] == pytest.approx(nats, abs=1e-3)
    assert figures(task, rows, said)["loss"] == pytest.approx(sum(nats) / sum(count), abs=1e-5)
    whole = TASKS["CAUSAL_LM"](Tools(config=model.config, tokenizer=task.tools.tokenizer, max_length=60))
    for row in rows[:2]:
        ids = torch.tensor([whole.features([row])[0]["input_ids"]])
        with torch.no_grad():
            own = float(model(input_ids=ids, labels=ids).loss)
        assert figures(whole, [row], asked(whole, model, [row]))["perplexity"] == pytest.approx(np.exp(own), rel=1e-5)


TALK = [
    {"role": "system", "content": "say yes"},
    {"role": "user", "content": "is paris red"},
    {"role": "assistant", "content": "no blue"},
    {"role": "user", "content": "and rome"},
    {"role": "assistant", "content": "yes red"},
]


def test_only_what_the_assistant_says_counts(bases: Bases) -> None:
    task, _ = lab(bases, "llama", "AutoModelForCausalLM", "CAUSAL_LM", max_length=60)
    (feature,) = task.features(examples({"messages": TALK}))
    own = task.tools.tokenizer
    learned = [id for id, label in zip(feature["input_ids"], feature["labels"], strict=True) if label != -100]
    assert own.convert_ids_to_tokens(learned) == ["no", "blue", "</s>", "yes", "red", "</s>"]
    assert feature["input_ids"] == own.apply_chat_template(TALK, tokenize=True, return_dict=True)["input_ids"]
    assert all(label in (-100, id) for id, label in zip(feature["input_ids"], feature["labels"], strict=True))
    (short,) = lab(bases, "llama", "AutoModelForCausalLM", "CAUSAL_LM", max_length=12)[0].features(
        examples({"messages": TALK})
    )
    assert len(short["input_ids"]) == 12 and short["input_ids"] == feature["input_ids"][:12]
    with pytest.raises(UsageError, match="rows:1: expected at most 4 tokens before the answer, found"):
        lab(bases, "llama", "AutoModelForCausalLM", "CAUSAL_LM", max_length=5)[0].features(examples({"messages": TALK}))


WRONG = {
    "no chat template": None,
    "does not go on where it left off": "{{ messages | length }} " + CHAT,
}


@pytest.mark.parametrize("said", WRONG)
def test_a_template_that_can_not_be_cut_is_refused(said: str, bases: Bases) -> None:
    own = tokenizer(
        bounds=False,
        chat=None
        if WRONG[said] is None
        else WRONG[said].replace("{{ messages | length }}", "{{ 'x ' * (messages | length) }}"),
    )  # type: ignore[union-attr]
    task, _ = lab(bases, "llama", "AutoModelForCausalLM", "CAUSAL_LM", tokenizer=own)
    with pytest.raises(UnsupportedError, match=said):
        task.features(examples({"messages": TALK}))


def test_answers_to_prompts_are_those_of_one_row_at_a_time(bases: Bases) -> None:
    task, model = lab(bases, "llama", "AutoModelForCausalLM", "CAUSAL_LM", max_length=40, max_answer=5, compares=True)
    rows = examples(*({"prompt": "bob " * n + "is", "answer": "good film"} for n in (1, 7, 3, 12, 2)))
    own, said = task.tools.tokenizer, asked(task, model, rows)
    for row, (nats, count, text) in zip(rows, said, strict=True):
        prompt = [1, *own(row.fields["prompt"], add_special_tokens=False)["input_ids"]]
        ids = torch.tensor([prompt])
        for _ in range(5):
            with torch.no_grad():
                following = model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, following], 1)
            if int(following) == 2:
                break
        assert text == own.decode(ids[0, len(prompt) :], skip_special_tokens=True)
        full = torch.tensor([[*prompt, *own("good film")["input_ids"], 2]])
        labels = full.clone()
        labels[:, : len(prompt)] = -100
        with torch.no_grad():
            assert nats == pytest.approx(3 * float(model(input_ids=full, labels=labels).loss), abs=1e-4) and count == 3
    assert figures(task, rows, said)["exact_match"] == sum(text == "good film" for *_, text in said) / 5


def test_texts_become_texts(bases: Bases) -> None:
    task, model = lab(bases, "t5", "AutoModelForSeq2SeqLM", "SEQ_2_SEQ_LM", max_length=12, max_answer=6, compares=True)
    rows = examples(*({"text": "bob " * n + "is", "target": "good film " * (1 + n % 2)} for n in (1, 7, 3, 12, 2)))
    own, said = task.tools.tokenizer, asked(task, model, rows)
    for row, (nats, count, text) in zip(rows, said, strict=True):
        given = own(row.fields["text"], truncation=True, max_length=12, return_tensors="pt")["input_ids"]
        target = own(row.fields["target"], return_tensors="pt")["input_ids"]
        with torch.no_grad():
            assert nats == pytest.approx(target.shape[1] * float(model(input_ids=given, labels=target).loss), abs=1e-4)
            made = model.generate(input_ids=given, max_new_tokens=6, do_sample=False)
        assert count == target.shape[1] and text == own.decode(made[0], skip_special_tokens=True)
    assert "exact_match" in figures(task, rows, said)


def test_an_image_is_a_file_numbers_or_bytes(bases: Bases, tmp_path: Path) -> None:
    processor = tf.AutoImageProcessor.from_pretrained(bases("vit"))
    task, model = lab(bases, "vit", "AutoModelForImageClassification", "IMG_CLS", processor=processor)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture, content = Image.fromarray(pixels), io.BytesIO()
    picture.save(tmp_path / "a.png")
    picture.save(content, "PNG")
    given = [
        str(tmp_path / "a.png"),
        pixels.tolist(),
        content.getvalue(),
        {"bytes": content.getvalue(), "path": None},
        picture,
    ]
    features = task.features(examples(*({"image": image, "label": 1} for image in given)))
    expected = torch.tensor(pixels / 255 * 2 - 1, dtype=torch.float32).permute(2, 0, 1)
    assert not any(isinstance(value, torch.Tensor) for feature in features for value in feature.values()), (
        "decoded late"
    )
    assert float((task.collate(features)["pixel_values"] - expected).abs().max()) < 1e-5
    grey = task.collate(task.features(examples({"image": pixels[..., 0].tolist(), "label": 0})))["pixel_values"][0]
    assert torch.equal(grey[0], grey[2])
    rows = examples(*({"image": image, "label": n % 2} for n, image in enumerate(given)))
    said = asked(task, model, rows)
    with torch.no_grad():
        best = int(model(pixel_values=expected[None]).logits.argmax())
    assert {answer[0] for answer in said} == {best}
    figures(task, rows, said)
    (tmp_path / "b.png").write_bytes(b"no picture")
    for wrong in (str(tmp_path / "b.png"), str(tmp_path / "none.png"), b"", [[1, 2], [3]]):
        with pytest.raises(UsageError, match="rows:1: the image can't be read"):
            task.features(examples({"image": wrong, "label": 0}))


def test_what_is_missing_is_said(bases: Bases) -> None:
    with pytest.raises(UnsupportedError, match="no tokenizer"):
        lab(bases, "bert", "AutoModelForSequenceClassification", "SEQ_CLS", tokenizer=None)
    with pytest.raises(UnsupportedError, match="no image processor"):
        lab(bases, "vit", "AutoModelForImageClassification", "IMG_CLS")
