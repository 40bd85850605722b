"""Trainings that are killed, and go on: the same bytes come out as without a break."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hubcli import toml_file
from hubcli.errors import NotFoundError, UsageError
from hubcli.recipe import Recipe
from hubcli.trainer import AdapterCheckpoints
from hubcli.training import loop, run_folder
from hubcli.training import train as training
from hubcli.training.journal import Journal
from hubcli.training.train import train
from tests.support.cli import hubcli
from tests.support.trainable import base, document, jsonl, logged, recipe, reviews

NOISY = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}
BY_STEPS = {"evaluate": 2}  # 24 rows in batches of 4: in the middle of an epoch
RUNS: dict[str, dict[str, Any]] = {
    "lora": {"method": {"name": "lora", "config": {"r": 2, "lora_dropout": 0.3}}},
    "lora-last": {"train": {"keep": "last"}},
    "lora-steps": {"method": {"name": "lora", "config": {"r": 2, "lora_dropout": 0.3}}, "train": BY_STEPS},
    "full": {"method": "full", "train": {"learning_rate": 0.003}},
    "full-steps": {"method": "full", "train": {**BY_STEPS, "learning_rate": 0.003, "gradient_accumulation": 2}},
    "lora-cosine-stop": {"train": {"schedule": "cosine", "head_learning_rate": 0.02, "early_stopping": {"patience": 3}}},
    "bottleneck": {"method": {"name": "bottleneck", "config": {"mh_adapter": True, "output_adapter": True, "reduction_factor": 4, "non_linearity": "gelu"}}},
}  # fmt: skip


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_step(step: int) -> Callable[[], None]:
    """After a step's update, before anything is written of it."""

    def arm() -> None:
        told = Journal.on_step_end

        def on_step_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            told(self, args, state, control, **kwargs)
            if state.global_step == step:
                die()

        Journal.on_step_end = on_step_end  # type: ignore[method-assign]

    return arm


def in_checkpoint(of: Any, step: int) -> Callable[[], None]:
    """While the checkpoint of a step is written: it is there, and not whole."""

    def arm() -> None:
        saved = of.on_save

        def on_save(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == step:
                die()
            saved(self, args, state, control, **kwargs)

        of.on_save = on_save

    return arm


def in_line() -> None:
    """While a line of metrics.jsonl is written, after the first checkpoint."""
    told = Journal.on_log

    def on_log(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 8:
            with self.file.open("a") as file:
                file.write('{"step": 8, "lo')
            die()
        told(self, args, state, control, **kwargs)

    Journal.on_log = on_log  # type: ignore[method-assign]


def at_the_end() -> None:
    """When all is trained, and the adapter half written."""

    def save(setup: Any, place: Path) -> None:
        (place / "adapter_model.safetensors").write_bytes(b"half")
        die()

    training._save_adapter = save


def in_the_report() -> None:
    """When all but run.json is written."""
    written = run_folder.write

    def write(folder: Path, found: dict[str, Any]) -> None:
        if found["status"] == "done":
            die()
        written(folder, found)

    run_folder.write = write


def killed(found: Recipe, folder: Path, arm: Callable[[], None]) -> None:
    """Train in a process of its own that is killed when `arm` says."""

    def work() -> None:
        arm()
        train(found, folder)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(100)
    assert process.exitcode == -signal.SIGKILL


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Recipe, Path]]:
    """A recipe of `RUNS` over a base with dropout, and its uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    noisy = base(folder / "base", **NOISY)
    data, done = jsonl(folder / "reviews.jsonl", reviews()), {}

    def of(name: str) -> tuple[Recipe, Path]:
        options = {**RUNS[name], "train": {"epochs": 3, **RUNS[name].get("train", {})}}
        if isinstance(method := options.get("method"), dict):
            options["method"] = method["name"]
        made = document(noisy, data, **options)
        made["method"] = method if isinstance(method, dict) else made["method"]
        if name not in done:
            done[name] = recipe_of(made, folder)
            train(done[name], folder / name)
        return done[name], folder / name

    return of


def recipe_of(made: dict[str, Any], folder: Path) -> Recipe:
    from hubcli.recipe import made as read

    return read(made, folder)


def content(run: Path) -> dict[str, bytes]:
    """Everything that numbers decide; what has times in it by its other fields."""
    found = {str(p.relative_to(run)): p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()}
    report = json.loads(found.pop("run.json"))
    for key in ("seconds_per_epoch", "peak_memory", "path"):
        report.pop(key)
    found["run.json"] = json.dumps(report).encode()
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in logged(run)]
    return {**found, "metrics.jsonl": json.dumps(lines).encode()}


MOMENTS = {
    "lora": {"first epoch": at_step(3), "second epoch": at_step(10), "cut line": in_line},
    "lora-last": {"report": in_the_report, "half an adapter": at_the_end},
    "lora-steps": {"mid-epoch": at_step(9), "checkpoint": in_checkpoint(AdapterCheckpoints, 10), "mark": in_checkpoint(loop.Epochs, 12)},
    "full": {"second epoch": at_step(8)},
    "full-steps": {"mid-epoch": at_step(9), "mark": in_checkpoint(loop.Epochs, 10)},
    "lora-cosine-stop": {"third epoch": at_step(14)},
    "bottleneck": {"second epoch": at_step(11)},
}  # fmt: skip


# one of each kind: in the middle of an epoch, of a checkpoint, of the last adapter, and with all weights in training
FAST = {("lora-last", "half an adapter"), ("lora-steps", "mid-epoch"), ("lora-steps", "checkpoint"), ("full", "second epoch")}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        pytest.param(name, moment, marks=[] if (name, moment) in FAST else [pytest.mark.slow])
        for name, moments in MOMENTS.items()
        for moment in moments
    ],
)
def test_a_killed_run_goes_on_to_the_same_bytes(name: str, moment: str, whole: Any, tmp_path: Path) -> None:
    found, expected = whole(name)
    killed(found, tmp_path / "run", MOMENTS[name][moment])
    report = train(found, tmp_path / "run", resume=True)
    assert report["status"] == "done"
    assert content(tmp_path / "run") == content(expected)


@pytest.mark.slow
def test_a_run_that_is_killed_twice_goes_on_too(whole: Any, tmp_path: Path) -> None:
    found, expected = whole("lora-steps")
    killed(found, tmp_path / "run", at_step(7))

    def again() -> None:
        at_step(13)()
        train(found, tmp_path / "run", resume=True)

    process = multiprocessing.get_context("fork").Process(target=again)
    process.start()
    process.join(100)
    assert process.exitcode == -signal.SIGKILL
    train(found, tmp_path / "run", resume=True)
    assert content(tmp_path / "run") == content(expected)


def test_what_is_done_is_left_as_it_is(whole: Any, tmp_path: Path) -> None:
    found, expected = whole("lora-last")
    shutil.copytree(expected, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    report = train(found, tmp_path / "run", resume=True)
    assert report == run_folder.read(expected)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}


def test_runs_that_can_not_be_written_where_they_are_wanted(whole: Any, bert: Path, rows: Path, tmp_path: Path) -> None:
    found, expected = whole("lora-last")
    before = content(expected)
    with pytest.raises(UsageError, match=r"holds a run \(done\)"):
        train(found, expected)
    other = recipe(tmp_path, bert, rows)
    with pytest.raises(UsageError, match="another recipe"):
        train(other, expected, resume=True)
    with pytest.raises(NotFoundError, match="no run to resume"):
        train(found, tmp_path / "none", resume=True)
    assert content(expected) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("all of it")
    for options in ({}, {"force": True}):
        with pytest.raises(UsageError, match="holds no run"):
            train(found, tmp_path / "mine", **options)
    (tmp_path / "mine/run.json").write_text('{"v": 1, "status": "done", "recipe_sha256": "of my own"}')
    with pytest.raises(UsageError, match=r"no part of a run: thesis\.txt"):
        train(found, tmp_path / "mine", force=True)
    assert (tmp_path / "mine/thesis.txt").read_text() == "all of it"
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_force_starts_anew(whole: Any, tmp_path: Path) -> None:
    found, expected = whole("lora-last")
    killed(found, tmp_path / "run", at_step(8))
    train(found, tmp_path / "run", force=True)
    assert content(tmp_path / "run") == content(expected)


def started(found: Recipe, folder: Path, name: str = "lora") -> tuple[list[str], subprocess.Popen[str]]:
    """`hubcli train` as anyone starts it."""
    file = folder / "recipe.toml"
    toml_file.write(file, run_folder.written(found))
    command = [sys.executable, "-m", "hubcli", "train", str(file), "--out", str(folder / "run")]
    return command, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_command_that_is_broken_off_goes_on(how: signal.Signals, whole: Any, tmp_path: Path) -> None:
    found, expected = whole("lora")
    command, process = started(found, tmp_path)
    assert process.stderr is not None
    first = process.stderr.readline()
    assert first.startswith("epoch 1 of 3, step 7 of 21: loss "), first
    process.send_signal(how)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -how), rest
    if how == signal.SIGINT:
        assert "--resume" in rest and "Traceback" not in rest
    report = run_folder.read(tmp_path / "run")
    assert report is not None and report["status"] == "running"
    answer = hubcli(*command[3:], "--resume", "--json")
    assert answer.code == 0 and answer.document["status"] == "done"
    for file in ("adapter/adapter_model.safetensors", "loss.svg"):
        assert (tmp_path / "run" / file).read_bytes() == (expected / file).read_bytes()
