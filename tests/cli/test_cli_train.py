"""hubcli train on the command line: its answers, its refusals, and what it leaves behind."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from safetensors.torch import load_file, save_file

from hubcli.training import run_folder
from hubcli.training import train as training
from tests.support.cli import Answer, hubcli
from tests.support.trainable import base, document, jsonl, logged, reviews

SHORT = {"epochs": 1}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base/, reviews.jsonl and a recipe in recipe.toml."""
    folder = tmp_path_factory.mktemp("toy")
    base(folder / "base")
    jsonl(folder / "reviews.jsonl", reviews())
    made = document(Path("base"), Path("reviews.jsonl"), train=SHORT)
    (folder / "recipe.toml").write_text(tomli_w.dumps(made))
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def untouched(toy: Path, tmp_path: Path) -> Iterator[Path]:
    """A place for a run that nothing may be left in; the recipe's folder is left as it was, too."""
    before = tree(toy)
    yield tmp_path / "run"
    assert not (tmp_path / "run").exists()
    assert tree(toy) == before


def trained(toy: Path, folder: Path, *more: str) -> Answer:
    return hubcli("train", str(toy / "recipe.toml"), "--out", str(folder), *more)


def test_a_run_says_what_it_did(toy: Path, tmp_path: Path) -> None:
    answer = trained(toy, tmp_path / "run", "--json")
    assert answer.code == 0 and answer.err == ""
    found = answer.document
    assert found == run_folder.read(tmp_path / "run")
    assert found["path"] == str(tmp_path / "run/adapter") and found["rows"]["train"] + found["rows"]["test"] < 48
    assert set(os.listdir(tmp_path / "run")) == {
        "adapter", "loss.png", "loss.svg", "metrics.jsonl", "recipe.toml", "run.json"
    }  # fmt: skip
    again = trained(toy, tmp_path / "run", "--resume", "--json")
    assert again.document == found
    answer = trained(toy, tmp_path / "run", "--force")
    out, err = answer.out.splitlines(), answer.err.splitlines()
    assert out[0].startswith(f"lora on {toy}/base (SEQ_CLS): 2") and out[-1].startswith(
        f"wrote {tmp_path}/run/adapter ("
    )
    assert any(re.match(r"test accuracy: 0\.\d+ \[", line) for line in out)
    assert len(err) == 1 and re.match(r"epoch 1 of 1, step \d of \d: loss [\d.]+, accuracy [\d.]+; 0:00 left$", err[0])
    assert trained(toy, tmp_path / "run", "--force", "-q").err == ""


def test_the_recipe_of_a_run_trains_the_run_again(toy: Path, tmp_path: Path) -> None:
    trained(toy, tmp_path / "run", "--set", "train.evaluate=2")
    written = tmp_path / "run/recipe.toml"
    answer = hubcli("train", str(written), "--out", str(tmp_path / "again"), "--json")
    assert answer.document["recipe_sha256"] == json.loads((tmp_path / "again/run.json").read_text())["recipe_sha256"]
    for file in ("recipe.toml", "adapter/adapter_model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "run" / file).read_bytes()
    assert hubcli("train", str(written), "--out", str(tmp_path / "run"), "--resume").code == 0


def test_a_dry_run_reads_and_writes_nothing(toy: Path, untouched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = trained(toy, untouched, "--dry-run", "--json")
    assert answer.code == 0 and answer.document["status"] == "checked" and answer.document["labels"] == ["neg", "pos"]
    said = trained(toy, untouched, "--dry-run").out
    assert f"would write {untouched}" in said


REFUSED: dict[str, tuple[list[str], int, str]] = {
    "optimiser": (["--set", "train.optimiser=adamw_toch"], 2, "did you mean 'adamw_torch'"),
    "schedule": (["--set", "train.schedule=cosin"], 2, "did you mean 'cosine'"),
    "metric": (["--set", "train.metric=acuracy"], 2, "did you mean 'accuracy'"),
    "metric of others": (["--set", "train.metric=f1_macro"], 2, "expected one of accuracy, f1, mcc, loss"),
    "method": (["--method", "lorra"], 3, "did you mean 'lora'"),
    "fp16": (["--precision", "fp16"], 1, '"fp16" needs a GPU'),
    "accumulation": (["--set", "train.gradient_accumulation=3"], 2, "expected a multiple of"),
    "a library": (["--set", "train.optimiser=galore_adamw"], 1, "train.optimiser"),
    "a schedule's numbers": (["--set", "train.schedule=cosine_with_min_lr"], 2, "train.schedule"),
    "no equals": (["--set", "a.b"], 2, "expected KEY=VALUE, found 'a.b'"),
    "key": (["--set", "train.learning_rat=0.1"], 2, "did you mean 'train.learning_rate'"),
    "type": (["--set", "train.epochs=many"], 2, "train.epochs"),
    "range": (["--set", "train.learning_rate=0"], 2, "train.learning_rate"),
    "warm-up": (["--set", "train.warmup=1.0"], 2, "train.warmup"),
    "a table": (["--set", "task.name=x"], 2, "'task' is no table"),
    "data": (["--data", "none.csv"], 3, "no data file none.csv"),
    "column": (["--set", "data.columns.text=words"], 2, "words"),
    "base": (["--base", "nobody/nothing"], 7, "nobody/nothing is not on this machine"),
    "no such folder": (["--base", "./nothing"], 3, "nothing"),
    "config": (["--set", "method.config.rank=3"], 6, "rank"),
    "config's key": (
        ["--set", "method.config.lora_alhpa=3"],
        2,
        "method: config.lora_alhpa: did you mean 'lora_alpha'",
    ),
    "config's value": (["--set", "method.config.r=many"], 2, "method: config.r: expected integer"),
    "target": (["--set", "method.config.target_modules=['nowhere']"], 3, "nowhere"),
    "device": (["--set", "base.device=toaster"], 1, "toaster"),
    "both": (["--resume", "--force"], 2, "exclude each other"),
    "nothing to resume": (["--resume"], 3, "no run to resume"),
    "dtype": (["--set", "base.dtype=int8"], 2, "base.dtype"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_is_refused_and_leaves_nothing(name: str, toy: Path, untouched: Path) -> None:
    options, code, said = REFUSED[name]
    answer = trained(toy, untouched, *options)
    assert said in answer.err and answer.out == "", answer.err
    assert answer.code == code and "hint" not in said


@pytest.mark.parametrize(
    "name",
    [
        "optimiser",
        "schedule",
        "metric",
        "metric of others",
        "method",
        "fp16",
        "key",
        "data",
        "config's key",
        "config's value",
    ],
)
def test_a_dry_run_refuses_it_too(name: str, toy: Path, untouched: Path) -> None:
    options, code, said = REFUSED[name]
    answer = trained(toy, untouched, *options, "--dry-run", "--json")
    assert answer.code == code and set(answer.document) == {"error"}
    assert said in str(answer.document["error"])


@pytest.mark.parametrize("how", ["train.log=1", "train.log=1000"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_training_that_diverges_says_so(method: str, how: str, toy: Path, tmp_path: Path) -> None:
    hot = [
        "--learning-rate",
        "100",
        "--set",
        "train.max_grad_norm=0",
        "--set",
        "train.optimiser=sgd",
        "--set",
        "train.l2=1e6",
        "--set",
        how,
    ]
    answer = trained(
        toy, tmp_path / "run", *hot, "--method", method, *(["--set", "method.config={}"] if method == "full" else [])
    )
    assert answer.code == 1 and "training diverged" in answer.err and "learning_rate" in answer.err, answer.err
    assert not (tmp_path / "run/adapter").exists() and not (tmp_path / "run/model").exists()


def test_init_writes_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    assert hubcli("train", "--init", str(file), "--dry-run", "--json").document == {"path": str(file), "written": False}
    assert not file.exists()
    assert hubcli("train", "--init", str(file), "--json").document == {"path": str(file), "written": True}
    assert tomllib.loads(file.read_text())["v"] == 1
    assert hubcli("train", "--init", str(file)).code == 2
    assert hubcli("train", "--init", str(file), "--force").code == 0


@pytest.mark.parametrize("more", [
    ["--set", "train.epochs=9"], ["--method", "full"], ["--out", "x"], ["--resume"], ["--keep-checkpoints"],
], ids=lambda more: more[0])  # fmt: skip
def test_init_refuses_what_it_would_not_write(more: list[str], tmp_path: Path) -> None:
    answer = hubcli("train", "--init", str(tmp_path / "recipe.toml"), *more)
    assert answer.code == 2 and more[0] in answer.err and not (tmp_path / "recipe.toml").exists()


BREAKS: dict[str, tuple[list[str], str, str]] = {
    "at work": ([], "_saved", "the same command with --resume goes on from the last checkpoint"),
    "forced": (["--force"], "_saved", "with --resume in the place of --force goes on"),
    "resumed": (["--resume"], "_saved", "the same command goes on from the last checkpoint"),
    "not begun": (["--force"], "prepared", "nothing was begun: run the same command again"),
}


def test_ctrl_c_says_one_thing_that_is_right(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    for options, where, said in BREAKS.values():
        with monkeypatch.context() as patched:
            patched.setattr(training, where, interrupt)
            answer = trained(toy, tmp_path / "run", *options, "--set", "train.max_steps=1")
        assert answer.code == 130 and answer.out == ""
        assert "error: broken off\nhint: " in answer.err
        assert answer.err.count("hint: ") == 1 and said in answer.err, answer.err
        assert "half done" not in answer.err
    whole = trained(toy, tmp_path / "other", "--set", "train.max_steps=1", "--json").document
    resumed = trained(toy, tmp_path / "run", "--set", "train.max_steps=1", "--resume", "--json").document
    assert whole["peak_memory"] > 10**7 and resumed["peak_memory"] is None, "of one process of several"


def test_the_figures_of_full_are_of_what_was_saved(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file with zeros in the place of the head: an even guess of two classes."""
    saved = training._saved

    def emptied(setup: Any, loop: Any, folder: Path) -> str:
        name = saved(setup, loop, folder)
        tensors = load_file(folder / name / "model.safetensors")
        tensors |= {key: torch.zeros_like(tensor) for key, tensor in tensors.items() if key.startswith("classifier")}
        save_file(tensors, folder / name / "model.safetensors", {"format": "pt"})
        return name

    monkeypatch.setattr(training, "_saved", emptied)
    changes = ("--method", "full", "--set", "method.config={}", "--set", "train.max_steps=1")
    report = trained(toy, tmp_path / "run", *changes, "--json").document
    losses = [figure["value"] for figure in report["metrics"] if figure["name"] == "loss"]
    assert losses == pytest.approx([math.log(2)] * 2)


def test_of_processes_started_together_the_first_alone_speaks(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, lines in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        recipe = str(toy / "recipe.toml")
        answer = hubcli("train", recipe, "--out", str(tmp_path / "run"), "--dry-run", cwd=tmp_path)
        assert answer.code == 0 and bool(answer.out) is bool(lines) and answer.err == ""
    from hubcli.cli.main import run

    assert run(["train", "none.toml", "--json"]) == 3


def test_doubts_are_told_before_training_and_a_run_without_validation_shows_that_it_lives(
    toy: Path, tmp_path: Path
) -> None:
    rows = [*reviews(), {**reviews()[0], "label": "pos"}]
    file = jsonl(tmp_path / "rows.jsonl", rows)
    answer = trained(toy, tmp_path / "run", "--data", str(file), "--set", "split={validation=0.0,test=0.0}")
    told, *steps = answer.err.splitlines()
    assert answer.code == 0 and told.startswith("warning: rows with the same input and another label"), answer.err
    assert steps and re.match(r"epoch [\d.]+ of 1, step 1 of \d+: loss [\d.]+; \d+:\d\d left$", steps[0]), answer.err


def test_without_the_extra_nothing_is_begun(toy: Path, untouched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "accelerate" else real(name, *a))
    answer = trained(toy, untouched)
    assert answer.code == 1 and "accelerate" in answer.err and "hubcli[train]" in answer.err


def test_a_full_disk_is_named_and_the_run_goes_on_later(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(setup: Any, place: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(training, "_save_adapter", full)
        answer = trained(toy, tmp_path / "run")
    assert answer.code == 8 and "No space left" in answer.err
    assert not list((tmp_path / "run").glob("*adapter*"))
    assert trained(toy, tmp_path / "run", "--resume").code == 0
    assert [line["step"] for line in logged(tmp_path / "run") if "loss" in line] == list(range(1, 8))


@pytest.mark.slow
def test_a_terminal_shows_a_bar_and_stdout_the_answer_alone(toy: Path, tmp_path: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(
        leader, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0)
    )  # no bar fits into a new one's 0 columns
    command = [sys.executable, "-m", "hubcli", "train", str(toy / "recipe.toml"), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower, text=True)
    os.close(follower)
    shown = b""
    with os.fdopen(leader, "rb", buffering=0) as screen:
        while True:
            try:
                part = screen.read(4096)
            except OSError:  # how a terminal says that nobody writes any more
                break
            if not part:
                break
            shown += part
    out, _ = process.communicate()
    assert process.returncode == 0, shown
    text = shown.decode()
    assert "training: 100%" in text and "accuracy=" in text and "measuring" in text
    assert "shards" not in text and "warn" not in text.lower()
    assert out.splitlines()[0].startswith("lora on ")
    shutil.rmtree(tmp_path / "run")
