"""peft's own prefixes, live: its folder loaded here, and ours loaded in peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from peft import PeftModel, PrefixTuningConfig, get_peft_model

from hubcli.adapted import adapt
from hubcli.composition import Average, Split, Stack
from hubcli.errors import BaseMismatchError, UnsupportedError
from hubcli.testing import apart, inputs_of, output, tiny

pytestmark = pytest.mark.filterwarnings("ignore")
TASKS = {"bert": "SEQ_CLS", "gpt2": "CAUSAL_LM", "llama": "CAUSAL_LM"}


def saved_by_peft(family: str, folder: Path, length: int = 3, seed: int = 1, projection: bool = False) -> Path:
    torch.manual_seed(seed)
    config = PrefixTuningConfig(
        task_type=TASKS[family], num_virtual_tokens=length, prefix_projection=projection, encoder_hidden_size=6
    )
    peft_model = get_peft_model(tiny(family), config)
    with torch.no_grad():
        for name, parameter in peft_model.named_parameters():
            if "prompt_encoder" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.6)
    peft_model.save_pretrained(folder)
    return folder


def by_peft(family: str, folder: Path, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return PeftModel.from_pretrained(tiny(family), folder).eval()(**inputs).logits  # type: ignore[no-any-return]


def padded(inputs: dict[str, torch.Tensor], side: str) -> dict[str, torch.Tensor]:
    mask = torch.ones_like(inputs["input_ids"])
    mask[1, -2:] = 0
    return {"input_ids": inputs["input_ids"], "attention_mask": mask if side == "right" else mask.flip(1)}


@pytest.mark.parametrize("projection", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", TASKS)
def test_a_folder_of_pefts_gives_pefts_logits(family: str, side: str, projection: bool, tmp_path: Path) -> None:
    folder, inputs = saved_by_peft(family, tmp_path / "a", projection=projection), padded(inputs_of(family), side)
    model = tiny(family)
    handle = adapt(model)
    handle.activate(handle.load(folder))
    seen = inputs["attention_mask"].bool()
    found, expected = output(model, inputs), by_peft(family, folder, inputs)
    if family != "bert":  # a padded position's own logits mean nothing
        found, expected = found[seen], expected[seen]
    assert apart(found, expected) <= 1e-5
    handle.activate(None)
    assert (
        apart(output(model, inputs)[: len(expected)], expected[: len(output(model, inputs))]) > 1e-3
        if family == "bert"
        else True
    )


@pytest.mark.parametrize("family", TASKS)
def test_what_is_saved_for_peft_loads_there(family: str, tmp_path: Path) -> None:
    model, inputs = tiny(family), inputs_of(family)
    handle = adapt(model)
    torch.manual_seed(3)
    handle.add("prefix", "mine", {"prefix_length": 4, "bottleneck_size": 5, "position_shift": True})
    handle.save("mine", tmp_path / "mine", format="peft")
    handle.activate("mine")
    assert apart(output(model, inputs), by_peft(family, tmp_path / "mine", inputs)) <= 1e-5


def test_a_folder_of_pefts_is_saved_again_byte_for_byte(tmp_path: Path) -> None:
    folder = saved_by_peft("gpt2", tmp_path / "a")
    handle = adapt(tiny("gpt2"))
    handle.save(handle.load(folder), tmp_path / "b")
    assert (tmp_path / "b" / "adapter_model.safetensors").read_bytes() == (
        folder / "adapter_model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_generate_is_pefts_and_rows_are_each_alone(family: str, tmp_path: Path) -> None:
    long, short = saved_by_peft(family, tmp_path / "a", 5), saved_by_peft(family, tmp_path / "b", 2, seed=9)
    ids = inputs_of(family)["input_ids"]
    model = tiny(family, torch.float32)
    handle = adapt(model)
    names = [handle.load(long), handle.load(short), None]
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    alone = []
    for name, row in zip(names, ids, strict=True):
        one = {"input_ids": row[None], "attention_mask": torch.ones_like(row[None])}
        if name is not None:
            other = PeftModel.from_pretrained(tiny(family, torch.float32), tmp_path / name).eval()
            expected = other.generate(**one, **options)
            assert torch.equal(handle.generate(**one, **options, expr=name), expected)
        else:
            expected = handle.generate(**one, **options, expr=None)
        alone.append(expected[0])
    found = handle.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options, rows=names)
    assert torch.equal(found, torch.stack(alone))


def test_positions_must_agree_where_a_trunk_is_shared(tmp_path: Path) -> None:
    handle = adapt(tiny("gpt2"))
    a, b = (handle.load(saved_by_peft("gpt2", tmp_path / name, length)) for name, length in (("a", 3), ("b", 2)))
    inputs = inputs_of("gpt2")
    for expr in (Average(a, b), Split(a, None, sizes=[3, 4])):
        with pytest.raises(UnsupportedError, match="positions move by 3 under a and by"):
            handle.activate(expr)
    handle.activate(Stack(a, b))
    output(handle.model, inputs)
    assert handle.active == Stack(a, b)


@pytest.mark.parametrize("family", ["roberta"])
def test_positions_that_skip_padding(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = tf.RobertaConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24, vocab_size=60,
        max_position_embeddings=40, pad_token_id=1,
    )  # fmt: skip
    base = tf.RobertaForSequenceClassification(config).eval()
    torch.manual_seed(1)
    peft_model = get_peft_model(base, PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)).eval()
    peft_model.save_pretrained(tmp_path / "a")
    ids = torch.randint(3, 60, (2, 7))
    ids[1, -2:] = 1
    inputs = {"input_ids": ids, "attention_mask": (ids != 1).long()}
    with torch.no_grad():
        expected = peft_model(**inputs).logits
        torch.manual_seed(0)
        model = tf.RobertaForSequenceClassification(config).eval()
        handle = adapt(model)
        handle.activate(handle.load(tmp_path / "a"))
        assert apart(model(**inputs).logits, expected) <= 1e-5


def bart(layers: int) -> Any:
    torch.manual_seed(0)
    config = tf.BartConfig(
        d_model=16, encoder_layers=layers, decoder_layers=layers, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=40, vocab_size=60, init_std=0.3, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=None,
    )  # fmt: skip
    return tf.BartForConditionalGeneration(config).eval()


@pytest.mark.parametrize("layers", [2, 3])
def test_an_encoder_decoder_gets_what_peft_gives_it(layers: int, tmp_path: Path) -> None:
    config = PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3)
    theirs = get_peft_model(bart(layers), config).eval()
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.normal_()
    theirs.save_pretrained(tmp_path / "a")
    model, inputs = bart(layers), inputs_of("bart")
    handle = adapt(model)
    bare = output(model, inputs)
    name = handle.load(tmp_path / "a")
    handle.activate(name)
    with torch.no_grad():
        expected = theirs(**inputs).logits
    assert apart(output(model, inputs), expected) <= 1e-5 < 1e-2 < apart(bare, expected)
    given = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False}
    found = handle.generate(**given, **options)
    assert torch.equal(found, theirs.generate(**given, **options))
    assert torch.equal(found, handle.generate(**given, **options, use_cache=False))
    with handle.using(rows=[None, name, None]):
        mixed = output(model, inputs)
    assert apart(mixed, torch.stack([bare[0], expected[1], bare[2]])) <= 1e-5
    with pytest.raises(UnsupportedError, match="self-attention"):
        handle.save(name, tmp_path / "b", format="peft")


def test_a_decoders_prefix_is_refused_by_an_encoder_decoder_and_the_other_way_round(tmp_path: Path) -> None:
    pair = get_peft_model(bart(2), PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3))
    pair.save_pretrained(tmp_path / "pair")
    one = saved_by_peft("gpt2", tmp_path / "one")
    for model, folder in ((tiny("gpt2"), tmp_path / "pair"), (bart(2), one)):
        with pytest.raises(BaseMismatchError, match="num_transformer_submodules"):
            adapt(model).load(folder)


def test_t5_has_no_positions_to_move(tmp_path: Path) -> None:
    theirs = get_peft_model(
        tiny("t5", torch.float32), PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3)
    )
    theirs.save_pretrained(tmp_path / "a")
    handle = adapt(tiny("t5"))
    with pytest.raises(UnsupportedError, match="T5ForConditionalGeneration doesn't take"):
        handle.activate(handle.load(tmp_path / "a"))
