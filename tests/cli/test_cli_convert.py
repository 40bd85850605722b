"""convert on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.support.adapters import IndexFolder
from tests.support.cli import hubcli

GOLDENS = Path(__file__).parents[1] / "fixtures" / "adapterhub" / "bert"
BASE = ["--base", str(GOLDENS / "base")]


def test_an_installed_adapter_and_back(index: IndexFolder, tmp_path: Path) -> None:
    answer = hubcli("convert", "acme/one@1.0.0", "--to", "hubcli", "--out", str(tmp_path / "own"), "--json")
    assert answer.code == 0, answer.out
    report = answer.document
    assert (report["source"], report["from"], report["to"], report["method"]) == (
        "acme/one@1.0.0",
        "peft",
        "hubcli",
        "lora",
    )
    assert {file["path"] for file in report["files"]} == {"README.md", "adapter.safetensors", "manifest.json"}
    manifest = json.loads((tmp_path / "own" / "manifest.json").read_text())
    assert manifest["base"]["architecture"] == "BertModel", "what the index says of the base is kept"
    assert hubcli("convert", str(tmp_path / "own"), "--to", "peft", "--out", str(tmp_path / "peft")).code == 0
    (row,) = hubcli("install", "acme/one@1.0.0", "--json").document["installed"]
    for file in ("adapter_model.safetensors", "README.md"):
        assert (tmp_path / "peft" / file).read_bytes() == (Path(row["path"]) / file).read_bytes()
    configs = [
        json.loads((folder / "adapter_config.json").read_text()) for folder in (tmp_path / "peft", Path(row["path"]))
    ]
    assert configs[0] == configs[1]


def test_what_is_said(tmp_path: Path) -> None:
    source, out = str(GOLDENS / "adapters" / "lora"), str(tmp_path / "out")
    dry = hubcli("convert", source, "--to", "peft", "--out", out, *BASE, "--dry-run")
    assert dry.code == 0 and dry.out.startswith("would write lora from adapterhub as peft") and not Path(out).exists()
    done = hubcli("convert", source, "--to", "peft", "--out", out, *BASE)
    assert "wrote lora from adapterhub as peft (2 files" in done.out and out in done.out
    assert "note: " in done.err and "attn_matrices" in done.err and "Traceback" not in done.err
    quiet = hubcli("convert", source, "--to", "hubcli", "--out", str(tmp_path / "own"), *BASE, "--quiet")
    assert quiet.err == "" or "is a pickle" in quiet.err
    assert len(load_file(Path(out) / "adapter_model.safetensors")) == 12


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        (["--to", "peft"], 2, "--out"),
        (["--to", "onnx", "--out", "x"], 2, "onnx"),
        (["--to", "peft", "--out", "x", "--offline"], 1, "bottleneck"),
        (["--to", "hubcli", "--out", "x", "--offline"], 7, "--base"),
        (["--to", "hubcli", "--out", "x", "--head", "drop", *BASE, "--child", "y"], 2, "no fusion"),
    ],
)
def test_what_is_refused(arguments: list[str], code: int, said: str, tmp_path: Path) -> None:
    answer = hubcli("convert", str(GOLDENS / "adapters" / "sst_with_head"), *arguments, "--json", cwd=tmp_path)
    assert answer.code == code and said in answer.out, answer.out
    assert not list(tmp_path.iterdir())


def test_a_folder_is_never_taken_for_a_ref(index: IndexFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("acme/one", "acme/nobody", "mine"):
        shutil.copytree(GOLDENS / "adapters" / "lora", tmp_path / name)
    taken = {"acme/one": "peft", "./acme/one": "adapterhub", "mine": "adapterhub"}
    for at, (name, format) in enumerate(taken.items()):
        report = hubcli("convert", name, "--to", "hubcli", "--out", f"out{at}", "--json").document
        assert report["from"] == format, report
    missing = hubcli("convert", "acme/nobody", "--to", "hubcli", "--out", "x", "--json").document["error"]
    assert missing["id"] == "E_NOT_FOUND" and "./acme/nobody" in missing["hint"]


def test_what_is_converted_is_not_replaced(tmp_path: Path) -> None:
    source = tmp_path / "inner"
    shutil.copytree(GOLDENS / "adapters" / "lora", source)
    (source / "notes.txt").write_text("mine")
    for out in (source, tmp_path):
        answer = hubcli("convert", str(source), "--to", "peft", "--out", str(out), "--force", *BASE)
        assert (answer.code, "holds what is converted" in answer.err) == (2, True)
    assert (source / "notes.txt").read_text() == "mine"


def test_help_has_examples() -> None:
    text = hubcli("convert", "--help").out
    assert "Examples:" in text and "--head drop" in text
    assert "convert" in hubcli("--help").out
