"""hubcli compare: what it prints and how it ends; and once with trainings that are real."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from hubcli.training.compare import children
from tests.api.hub_repos import base_folder
from tests.support.cli import hubcli

FAKE = Path(__file__).parents[1] / "training" / "fake_train.py"
RECIPE = """v = 1
name = "toy/films"
task = "SEQ_CLS"
base = { id = "base" }
method = { name = "lora", config = { r = 2, target_modules = ["query", "value"] } }
data = { train = "train.csv" }
split = { test = 0.3 }
train = { max_steps = 2, batch_size = 8, threads = 1 }
"""


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"film {i} is {'good' if i % 2 else 'bad'},{'yes' if i % 2 else 'no'}" for i in range(60)]
    Path("train.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    Path("recipe.toml").write_text(RECIPE)


@pytest.fixture
def mode(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trainings that never were."""
    how = ["well"]

    def command(run: Any, more: Any) -> list[str]:
        return [sys.executable, "-S", str(FAKE), str(run.file), str(run.folder), *more, how[0]]

    monkeypatch.setattr(children, "command", command)
    return how


def test_a_table_on_stdout_and_a_line_a_run_on_stderr(mode: list[str]) -> None:
    answer = hubcli(
        "compare", "recipe.toml", "--methods", "full, lora,qlora", "--seeds", "3,5", "--jobs", "2", "--out", "x"
    )
    assert answer.code == 0, answer.err
    head, *rows = answer.out.splitlines()
    assert head.split()[:2] == ["METHOD", "TRAINABLE"] and "TO FULL" in head
    assert [row.split()[0] for row in rows] == ["full", "lora", "qlora", "qlora", "wrote"]
    assert rows[3].startswith("qlora to lora: ") and rows[4] == "wrote x/compare.md, .json, .svg, .png"
    assert [line for line in answer.err.splitlines() if line.startswith("[6/6] qlora, seed 5: done in 0:0")]
    assert answer.err.count(" left") >= 4
    again = hubcli("compare", "recipe.toml", "--methods", "full, lora,qlora", "--seeds", "3,5", "--out", "x", "--json")
    assert again.document == json.loads(Path("x/compare.json").read_text()) and again.err == ""


def test_a_run_that_fails_is_told_with_its_log_and_ends_with_1(mode: list[str]) -> None:
    mode[0] = "fail:lora-1"
    options = ("compare", "recipe.toml", "--methods", "lora,full", "--seeds", "2", "--reference", "lora", "--out", "x")
    answer = hubcli(*options, "--json")
    assert answer.code == 1 and answer.document["failed"][0]["log"] == "x/lora-1.log"
    assert answer.document["reference"] == "lora"
    assert "lora, seed 1: failed, see x/lora-1.log: the disk is on fire" in answer.err
    assert {run["status"] for run in answer.document["runs"]} == {"done", "failed"}
    mode[0] = "well"
    assert hubcli(*options, "--quiet").code == 0


def test_a_dry_run_and_what_is_refused(mode: list[str]) -> None:
    answer = hubcli("compare", "recipe.toml", "--methods", "lora,full", "--seeds", "2,", "--dry-run")
    assert [line.split()[:3] for line in answer.out.splitlines()[1:]] == [["lora", "2", "new"], ["full", "2", "new"]]
    assert hubcli("compare", "recipe.toml", "--dry-run", "--json").document["runs"][2]["seed"] == 2
    for options, code, said in (
        (("--seeds", "some"), 2, "--seeds: expected a number"),
        (("--methods", "lora,,full"), 2, "--methods: expected names"),
        (("--methods", "lorra"), 3, "did you mean 'lora'?"),
        (("--set", "train.epochs"), 2, "KEY=VALUE"),
        (("--set", "compare.lora.trane.epochs=1"), 2, "compare.lora"),
        (("--reference", "full"), 2, "reference: expected one of lora"),
    ):
        refused = hubcli("compare", "recipe.toml", *options)
        assert refused.code == code and said in refused.err, refused.err
    assert not Path("runs").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_with_trainings_that_are_real() -> None:
    base_folder(Path("base"), hidden_size=64, intermediate_size=64)
    options = ("compare", "recipe.toml", "--methods", "full,lora,qlora", "--seeds", "1", "--out", "x", "--json")
    answer = hubcli(*options, "--set", "compare.qlora.config.target_modules=['query','value']")
    assert answer.code == 0, answer.err
    full, lora, qlora = answer.document["methods"]
    assert (
        full["parameters"]["share"] == 1.0 and full["parameters"]["trainable"] == answer.document["base"]["parameters"]
    )
    # r = 2 of 64 × 64 in two modules of two layers, and a head of 64 × 2 + 2
    assert lora["parameters"] | {"share": 0} == {"trainable": 4 * 2 * 128 + 130, "without_head": 1024, "share": 0}
    assert lora["linears"] == {"modules": 4, "bytes": 4 * 64 * 64 * 4, "full_precision": 4 * 64 * 64 * 4, "share": 1.0}
    # half a byte a number; a byte a block of 64; a float for 256 of those; codes of 16 and 256 floats; an offset
    assert qlora["linears"]["bytes"] == 4 * (64 * 64 // 2 + 64 + 4 + 16 * 4 + 256 * 4 + 4)
    assert qlora["linears"]["full_precision"] == lora["linears"]["bytes"] and qlora["quantize"] == "nf4"
    # two layers with four modules of attention and two behind it, and the pooler; the head is none
    assert full["linears"]["modules"] == 2 * 6 + 1
    assert qlora["peak_memory"] > 10**8 and qlora["seconds_per_epoch"] > 0
    assert full["size"] > 4 * full["parameters"]["trainable"] and lora["size"] > 4 * lora["parameters"]["trainable"]
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in Path("x").glob("*/run.json")}
    again = hubcli(*options, "--set", "compare.qlora.config.target_modules=['query','value']")
    assert again.document == answer.document
    assert before == {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in before}
