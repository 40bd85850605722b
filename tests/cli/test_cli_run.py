"""hubcli run: what other tasks than classification print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hubcli.cli.run import _lines
from tests.support import trainable
from tests.support.cli import hubcli

TURN = "i need a cheap hotel in the north for 3 nights"


@pytest.mark.usefixtures("home")
def test_what_is_said_of_words_stands_below_their_text() -> None:
    """The bundled adapter for slots, whose answer a person can check: price, type, area and length of stay."""
    answer = hubcli("run", "slots/bert-bottleneck", TURN, "thank you")
    assert answer.code == 0, answer.err
    first, *found, second, nothing = answer.out.splitlines()
    assert (first, second, nothing.strip()) == (TURN, "thank you", "nothing found")
    assert {tuple(line.split())[::2] for line in found} == {
        ("B-price", "cheap"), ("B-type", "hotel"), ("B-area", "north"), ("B-stay", "3")
    }  # fmt: skip


def test_a_text_that_was_written_is_printed_as_it_is() -> None:
    assert _lines([{"text": "To be", "generated_text": "To be, or not\nto be"}]) == ["To be, or not\nto be"]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("option", [["--chat"], ["--max-new-tokens", "5"]])
def test_what_only_writers_can_do_is_refused_before_a_base_is_loaded(
    option: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubcli.bases.load_base", lambda *_, **__: pytest.fail("the base was loaded"))
    answer = hubcli("run", "sentiment/bert-bitfit", "a gripping film", *option)
    assert answer.code == 1 and "text-classification" in answer.err and not answer.out


TEXTS = ["the film was good", "two long books and a very slow plot"]


def lora(folder: Path, family: str, task: str, *, pads: bool = True) -> tuple[Any, Any]:
    """A LoRA by peft in `folder`/lora, on a base whose tokenizer has a token to pad with or not: (peft's model, tokenizer)."""
    import peft
    import transformers as tf

    base = trainable.base(folder / "base", family, **({} if pads else {"pad_token_id": None}))
    if not pads:
        config = json.loads((base / "tokenizer_config.json").read_text())
        del config["pad_token"]
        (base / "tokenizer_config.json").write_text(json.dumps(config))
    auto = {"CAUSAL_LM": tf.AutoModelForCausalLM, "SEQ_CLS": tf.AutoModelForSequenceClassification}[task]
    told = {"gpt2": {"target_modules": ["c_attn"], "fan_in_fan_out": True}}
    options = told.get(family, {"target_modules": ["q_proj", "v_proj"]})
    lora = peft.LoraConfig(r=4, init_lora_weights=False, task_type=task, **options)
    wrapped = peft.get_peft_model(auto.from_pretrained(base), lora).eval()
    wrapped.save_pretrained(folder / "lora")
    tokenizer = tf.AutoTokenizer.from_pretrained(base)
    assert (tokenizer.pad_token_id is None) is not pads
    return wrapped, tokenizer


def answered(folder: Path, *options: str) -> list[dict[str, Any]]:
    answer = hubcli("run", str(folder / "lora"), *TEXTS, *options, "--json")
    assert answer.code == 0, answer.err
    found: list[dict[str, Any]] = answer.document["predictions"]
    assert [row["text"] for row in found] == TEXTS
    return found


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(("family", "pads"), [("llama", True), ("llama", False), ("gpt2", False)])
def test_a_chat_answers_as_peft_does_on_the_same_template(family: str, pads: bool, tmp_path: Path) -> None:
    """Against plain transformers and peft: the template, then generate, token for token, one text at a time."""
    wrapped, tokenizer = lora(tmp_path, family, "CAUSAL_LM", pads=pads)
    expected = []
    for text in TEXTS:
        talk = [{"role": "user", "content": text}]
        ids = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        out = wrapped.generate(**ids, max_new_tokens=6, do_sample=False)
        expected.append(tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))
    found = answered(tmp_path, "--chat", "--max-new-tokens", "6")
    assert [row["generated_text"].strip() for row in found] == [text.strip() for text in expected]
    assert len(set(expected)) == 2


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("options", [(), ("--max-new-tokens", "6")], ids=["predict", "written"])
def test_a_writer_without_a_token_to_pad_with_goes_on_as_peft_does(options: tuple[str, ...], tmp_path: Path) -> None:
    wrapped, tokenizer = lora(tmp_path, "gpt2", "CAUSAL_LM", pads=False)
    length = {"max_new_tokens": 6} if options else {"max_new_tokens": 256, "max_length": None}
    inputs = [tokenizer(text, return_tensors="pt") for text in TEXTS]
    expected = [wrapped.generate(**one, do_sample=False, **length)[0] for one in inputs]
    found = [row["generated_text"].replace(" ", "") for row in answered(tmp_path, *options)]
    assert found == [tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") for ids in expected]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_classifier_without_a_token_to_pad_with_answers_as_peft_does(family: str, tmp_path: Path) -> None:
    wrapped, tokenizer = lora(tmp_path, family, "SEQ_CLS", pads=False)
    logits = [wrapped(**tokenizer(text, return_tensors="pt")).logits[0].detach() for text in TEXTS]
    found = answered(tmp_path)
    assert [row["label"] for row in found] == [f"LABEL_{int(row.argmax())}" for row in logits]
    for row, expected in zip(found, logits, strict=True):
        assert row["score"] == pytest.approx(float(expected.softmax(-1).max()), abs=1e-5)
