"""hubcli fuse: the checkpoint that it writes, as plain transformers reads it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file

from hubcli import api, load_adapter
from hubcli.adapted import adapt
from hubcli.fused_checkpoint import write
from tests.api.bundled import REF, TEXTS
from tests.support.cli import hubcli
from tests.tensor.models import FAMILIES, apart, inputs_of, logits, model_of, peft_adapter

pytestmark = pytest.mark.filterwarnings("ignore")
AUTO = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
}


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tiny base, and adapters a, b, c (a DoRA) for it, each with a head."""
    base = model_of("bert", torch.float32)
    base.save_pretrained(tmp_path / "base")  # type: ignore[operator]
    base.config._name_or_path = base.name_or_path = str(tmp_path / "base")  # type: ignore[union-attr, assignment]
    for seed, (name, more) in enumerate({"a": {"r": 2}, "b": {"r": 3}, "c": {"r": 2, "use_dora": True}}.items(), 1):
        peft_adapter(base, tmp_path / name, "SEQ_CLS", seed, target_modules=["query", "value"], **more)
        (tmp_path / name / "config.json").write_text(json.dumps({"id2label": {"0": "no", "1": "yes"}}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def again(folder: Path, family: str = "bert", **options: Any) -> Any:
    """What plain transformers makes of the folder; nothing may be missing from it, and nothing left over."""
    kind = getattr(tf, AUTO[FAMILIES[family][2]] if family != "vit" else "AutoModelForImageClassification")
    model, told = kind.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(told.values()), told
    return model.eval()


@pytest.mark.parametrize(
    "expr", ["./a", "stack(./a, ./b)", "average(./a, ./c, weights=[0.7, 0.4])", "stack(./c, average(./a, ./b))"]
)
def test_plain_transformers_gives_the_compositions_logits(expr: str, parts: Path) -> None:
    answer = hubcli("fuse", expr, "--out", "new/m", "--json")
    assert answer.code == 0, answer.err
    report = answer.document
    assert report["written"] and report["dtype"] == "float32" and report["rounding"] == 0
    assert len(report["modules"]) == 4 and report["heads"] == ["classifier"] and report["labels"] == ["no", "yes"]
    wanted = logits(load_adapter(expr).model, inputs_of("bert"))
    model = again(parts / "new" / "m")
    assert apart(logits(model, inputs_of("bert")), wanted) <= 1e-5
    assert model.config.id2label == {0: "no", 1: "yes"}
    assert sorted(path.name for path in (parts / "new").iterdir()) == ["m"]
    assert {file["path"] for file in report["files"]} == {path.name for path in (parts / "new" / "m").iterdir()}
    assert len({path.stat().st_mode for path in (parts / "new" / "m").iterdir()}) == 1


@pytest.mark.parametrize(
    ("family", "targets"),
    [
        ("gpt2", ["c_attn", "c_fc"]),
        ("gpt2", ["wte"]),
        ("gpt2", ["lm_head", "c_proj"]),
        ("llama", ["q_proj", "embed_tokens", "down_proj"]),
        ("t5", ["q", "wo"]),
        ("t5", ["lm_head", "v"]),
        ("vit", ["projection", "q_proj"]),
        ("albert", ["query", "ffn"]),
        ("roberta", ["query", "dense"]),
        ("distilbert", ["q_lin", "word_embeddings"]),
    ],
)
def test_many_families_and_tied_weights(family: str, targets: list[str], tmp_path: Path) -> None:
    base: Any = model_of(family, torch.float32)
    inputs = {k: v.float() if v.is_floating_point() else v for k, v in inputs_of(family).items()}
    peft_adapter(base, tmp_path / "a", "", r=3, target_modules=targets)
    handle = adapt(base)
    handle.load(tmp_path / "a", "a")
    handle.activate("a")
    wanted = logits(base, inputs)
    write(handle, tmp_path / "out")
    assert apart(logits(again(tmp_path / "out", family), inputs), wanted) <= 1e-5
    assert torch.equal(logits(base, inputs), wanted), "the handle is what it was"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_states_its_rounding(dtype: str, parts: Path) -> None:
    answer = hubcli("fuse", "./a", "--out", "m", "--dtype", dtype, "--json")
    assert answer.code == 0 and answer.document["dtype"] == dtype
    kind = getattr(torch, dtype)
    stored = load_file(parts / "m" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {kind}
    fine = load_adapter("./a", dtype=dtype)
    fine.model.to(torch.float32)
    fine.fuse()
    far = max(apart(stored[key], tensor) for key, tensor in fine.model.state_dict().items() if "self." in key)
    assert 0 < answer.document["rounding"] == pytest.approx(far, rel=1e-4)
    assert f"rounded to {dtype}: no weight by more than" in hubcli("fuse", "./a", "--out", "n", "--dtype", dtype).out
    model = again(parts / "m", dtype="auto")
    assert (
        model.dtype == kind
        and apart(logits(model.float(), inputs_of("bert")), logits(fine.model, inputs_of("bert"))) < 0.1
    )


def test_the_bundled_adapter_answers_in_a_plain_pipeline(tmp_path: Path) -> None:
    """The real base, its tokenizer and labels; in float32 the same scores."""
    assert hubcli("fuse", REF, "--out", str(tmp_path / "m"), "--quiet").code == 0
    expected = load_adapter(REF).predict(list(TEXTS))
    found = tf.pipeline("text-classification", model=str(tmp_path / "m"))(list(TEXTS))
    for one, other in zip(found, expected, strict=True):
        assert one["label"] == other.label and one["score"] == pytest.approx(other.score, abs=1e-5)
    kept = json.loads((tmp_path / "m" / "tokenizer_config.json").read_text())
    assert not {"token", "local_files_only", "dtype"} & set(kept) and str(Path.home()) not in json.dumps(kept)


@pytest.mark.parametrize(
    ("expr", "code", "match"),
    [
        ("./nothing", 3, "nothing"),
        ("stack(./a, ./d)", 3, "d"),
        ("split(./a, ./b, sizes=[3, 4])", 1, "split"),
        ("batchsplit(./a, ./b, sizes=[2, 1])", 1, "batchsplit"),
        ("parallel(./a, ./b)", 1, "parallel"),
        ("./bottleneck", 1, "bottleneck"),
        ("stack(./a, ./prefix)", 1, "prefix"),
    ],
)
def test_what_is_no_weight_is_refused_by_name(expr: str, code: int, match: str, parts: Path) -> None:
    handle = adapt(model_of("bert", torch.float32))
    pfeiffer = {"mh_adapter": False, "output_adapter": True, "reduction_factor": 4, "non_linearity": "relu"}
    for method, config in (("bottleneck", pfeiffer), ("prefix", {"prefix_length": 2})):
        handle.add(method, method, config, head=None)
        handle.save(method, parts / method, format="hubcli")
        manifest = json.loads((parts / method / "manifest.json").read_text())
        manifest["base"] = {"id": str(parts / "base")}
        (parts / method / "manifest.json").write_text(json.dumps(manifest))
    answer = hubcli("fuse", expr, "--out", "m", "--json")
    assert answer.code == code and match in answer.document["error"]["message"], answer.out
    assert not (parts / "m").exists() and not [path for path in parts.iterdir() if path.name.startswith(".m")]


def test_a_weight_that_the_model_has_no_place_for_is_refused(tmp_path: Path) -> None:
    base = model_of("llama", torch.float32)
    handle = adapt(base)
    handle.add("bitfit", "a", {"add_biases": True, "target_modules": ["q_proj"]}, head=None)
    with torch.no_grad():
        for parameter in handle.trainable("a"):
            parameter.add_(1.0)
    handle.trainable([])
    handle.activate("a")
    with pytest.raises(Exception, match=r"q_proj\.bias: a LlamaForCausalLM has no such weight"):
        write(handle, tmp_path / "m")
    assert base.model.layers[0].self_attn.q_proj.bias is None  # type: ignore[union-attr, index]


def test_a_dry_run_writes_nothing_and_checks_all_the_same(parts: Path) -> None:
    answer = hubcli("fuse", "./a", "--out", "m", "--dry-run", "--json")
    assert answer.code == 0 and not answer.document["written"] and answer.document["files"] == []
    assert len(answer.document["modules"]) == 4 and not (parts / "m").exists()
    assert "would write m" in hubcli("fuse", "./a", "--out", "m", "--dry-run").out
    assert hubcli("fuse", "parallel(./a, ./b)", "--out", "m", "--dry-run").code == 1


def test_a_folder_is_not_written_over_unless_told(parts: Path) -> None:
    (parts / "m").mkdir()
    assert hubcli("fuse", "./a", "--out", "m").code == 0
    refused = hubcli("fuse", "./b", "--out", "m", "--json")
    assert refused.code == 2 and "--force" in refused.document["error"]["hint"]
    assert hubcli("fuse", "./b", "--out", "m", "--force").code == 0
    assert (
        apart(logits(again(parts / "m"), inputs_of("bert")), logits(load_adapter("./b").model, inputs_of("bert")))
        <= 1e-5
    )


def test_an_error_while_writing_leaves_nothing(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hubcli.fused_checkpoint._compare", fail)
    before = sorted(os.listdir(parts))
    assert hubcli("fuse", "./a", "--out", "m").code == 130
    assert sorted(os.listdir(parts)) == before


def test_shards(parts: Path) -> None:
    report = api.fuse("./a", "m", max_shard_size="20KB")
    assert sum(file["path"].endswith(".safetensors") for file in report["files"]) > 1
    assert (
        apart(logits(again(parts / "m"), inputs_of("bert")), logits(load_adapter("./a").model, inputs_of("bert")))
        <= 1e-5
    )
