"""hubcli run: what other tasks than classification print."""

from __future__ import annotations

from pathlib import Path

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


def test_a_chat_answers_as_peft_does_on_the_same_template(home: Path, tmp_path: Path) -> None:
    """Against plain transformers and peft: the template, then generate, token for token."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = trainable.base(tmp_path / "base", "llama")
    model = AutoModelForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    wrapped = peft.get_peft_model(model, config)
    wrapped.save_pretrained(tmp_path / "lora")
    tokenizer = AutoTokenizer.from_pretrained(base)
    texts = ["the film was good", "two long books"]
    expected = []
    for text in texts:
        talk = [{"role": "user", "content": text}]
        ids = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            out = wrapped.generate(**ids, max_new_tokens=6, do_sample=False)
        expected.append(tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))
    answer = hubcli("run", str(tmp_path / "lora"), *texts, "--chat", "--max-new-tokens", "6", "--json")
    assert answer.code == 0, answer.err
    found = answer.document["predictions"]
    assert [row["text"] for row in found] == texts
    assert [row["generated_text"].strip() for row in found] == [text.strip() for text in expected]
    assert len(set(expected)) == 2
