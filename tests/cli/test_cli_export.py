"""export on the command line: a tiny base in a folder, and the bundled adapter on its real one."""

from __future__ import annotations

import hashlib
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from hubcli import load_adapter
from tests.support.cli import Answer, hubcli
from tests.tensor.models import model_of, peft_adapter

pytestmark = pytest.mark.filterwarnings("ignore")
FAMILIES = {"bert": ("SEQ_CLS", ["query", "value"]), "llama": ("CAUSAL_LM", ["q_proj", "k_proj"])}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the bases bert and llama, and the adapters one and two of each."""
    for family, (task, targets) in FAMILIES.items():
        base: Any = model_of(family, torch.float32)
        base.save_pretrained(tmp_path / family)
        base.name_or_path = str(tmp_path / family)
        base.config._name_or_path = str(tmp_path / family)
        for seed, name in enumerate(("one", "two"), 1):
            peft_adapter(base, tmp_path / f"{family}-{name}", task, seed, r=2, lora_alpha=4, target_modules=targets)
    (tmp_path / "out").mkdir()
    return tmp_path


def export(place: Path, *arguments: str) -> Answer:
    return hubcli("export", *arguments, "--json", cwd=place)


@pytest.mark.parametrize(
    ("expr", "to"),
    [
        ("average(./bert-one, ./bert-two)", "pt2"),
        pytest.param("stack(./bert-one, ./bert-two)", "onnx", marks=pytest.mark.slow),
        ("stack(./llama-one, ./llama-two)", "gguf"),
    ],
)
def test_a_file_and_its_report(expr: str, to: str, place: Path) -> None:
    file = place / "out" / f"made.{to}"
    answer = export(place, expr, "--to", to, "--out", f"out/made.{to}")
    assert answer.code == 0, answer.out
    report, data = answer.document, file.read_bytes()
    assert (report["size"], report["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert report["format"] == to and report["written"] and report["base"] is None
    assert report["difference"] <= 1e-5 and str(place).encode() not in data
    if to != "gguf":
        assert [value["name"] for value in report["inputs"]] == ["input_ids", "attention_mask", "token_type_ids"]
        assert report["outputs"][0]["labels"] == ["LABEL_0", "LABEL_1"]
    else:
        assert report["tensors"] == 4


def test_nothing_is_written_by_a_dry_run_nor_over_a_file(place: Path) -> None:
    arguments = ("./llama-one", "--to", "gguf", "--out", "out/lora.gguf")
    assert export(place, *arguments, "--dry-run").document["written"] is False
    assert list((place / "out").iterdir()) == []
    assert "would write out/lora.gguf (gguf" in hubcli("export", *arguments, "--dry-run", cwd=place).out
    assert hubcli("export", *arguments, cwd=place).out.startswith("wrote out/lora.gguf")
    before = (place / "out/lora.gguf").read_bytes()
    refused = export(place, *arguments, "--dtype", "float16")
    assert (refused.code, refused.document["error"]["id"]) == (2, "E_USAGE") and "--force" in refused.document["error"][
        "hint"
    ]
    assert (place / "out/lora.gguf").read_bytes() == before
    assert export(place, *arguments, "--dtype", "float16", "--force").document["size"] < len(before)
    assert [p.name for p in (place / "out").iterdir()] == ["lora.gguf"]


def test_adapters_alone_need_no_weights_of_the_base(place: Path) -> None:
    (place / "llama/model.safetensors").unlink()
    assert export(place, "./llama-one", "--to", "gguf", "--out", "out/lora.gguf").document["difference"] == 0.0
    peft_adapter(
        model_of("llama", torch.float32), place / "dora", "CAUSAL_LM", r=2, target_modules=["q_proj"], use_dora=True
    )
    config = json.loads((place / "dora/adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(place / "llama")
    (place / "dora/adapter_config.json").write_text(json.dumps(config))
    error = export(place, "./dora", "--to", "gguf", "--out", "out/dora.gguf").document["error"]
    assert error["id"] == "E_UNSUPPORTED" and "depends on the base's weights" in error["message"]
    assert (
        export(place, "./llama-one", "--to", "gguf", "--out", "x", "--head", "y").document["error"]["id"] == "E_USAGE"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "id", "says"),
    [
        (["./bert-one", "--to", "onxx"], 2, "E_USAGE", "did you mean 'onnx'?"),
        (["./bert-one", "--to", "tflite"], 2, "E_USAGE", "pt2, onnx, gguf"),
        (["./bert-one", "--to", "gguf"], 1, "E_UNSUPPORTED", "has a head"),
        (["./llama-one", "--to", "onnx"], 1, "E_UNSUPPORTED", "supported: albert, bert"),
        (["./llama-one", "--to", "pt2", "--dtype", "int8"], 1, "E_UNSUPPORTED", "no floating type"),
        (["./nobody", "--to", "pt2"], 3, "E_NOT_FOUND", "nobody"),
        (["stack(./bert-one", "--to", "pt2"], 2, "E_EXPRESSION", ""),
        (["./bert-one", "--to", "pt2", "--opset", "18"], 2, "E_USAGE", "opset is for onnx"),
        (["./bert-one"], 2, "E_USAGE", "--to"),
    ],
)
def test_refusals(arguments: list[str], code: int, id: str, says: str, place: Path) -> None:
    answer = export(place, *arguments, "--out", "out/made")
    error = answer.document["error"]
    assert (answer.code, error["id"]) == (code, id) and says in f"{error['message']} {error['hint']}", error
    assert list((place / "out").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("to", ["pt2", "onnx"])
def test_the_bundled_adapter_on_its_real_base(to: str, tmp_path: Path) -> None:
    """Texts of several lengths and batches of several sizes get the labels and scores of `run`."""
    pytest.importorskip("onnxruntime")
    answer = hubcli("export", "sentiment/bert-lora", "--to", to, "--out", str(tmp_path / "made"), "--json")
    assert answer.code == 0, answer.out
    report = answer.document
    assert report["base"] == "sentence-transformers/all-MiniLM-L6-v2" and report["difference"] <= 1e-5
    labels = report["outputs"][0]["labels"]
    adapted = load_adapter("sentiment/bert-lora")
    run = import_module(f"hubcli.exports.{to}").opened(tmp_path / "made")
    for texts in (
        ["a gripping film"],
        ["two hours I want back", "It is neither good nor bad; it is long. " * 12, "meh"],
    ):
        inputs = dict(adapted.tokenizer(texts, padding=True, truncation=True, return_tensors="pt"))
        with torch.no_grad():
            expected = adapted(**inputs).logits
        found = run(inputs)["logits"]
        assert (found - expected).abs().max() <= 1e-5
        scores, places = found.softmax(-1).max(-1)
        answers = [
            (labels[i], pytest.approx(s, abs=1e-5)) for i, s in zip(places.tolist(), scores.tolist(), strict=True)
        ]
        assert [(p.label, p.score) for p in adapted.predict(texts)] == answers
