"""transformers' Trainer and accelerate around an adapted model: the numbers of peft, of an uninterrupted run, of one process."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from peft import PeftModel
from safetensors.torch import load_file
from transformers import Trainer, TrainerCallback, TrainingArguments

from hubcli import AdapterCheckpoints
from hubcli.adapted import Adapted, adapt
from hubcli.composition import Fuse
from hubcli.errors import IntegrityError, NotFoundError, UnsupportedError

from . import ddp_run
from .methods import METHODS, noisy
from .models import apart, inputs_of, logits, model_of, peft_adapter

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
STEPS = 6


def rows(n: int = 12, seed: int = 7) -> list[dict[str, Any]]:
    made = torch.Generator().manual_seed(seed)
    return [{"input_ids": torch.randint(3, 60, (6,), generator=made), "labels": i % 2} for i in range(n)]


def trainer(model: Any, folder: Path, *callbacks: Any, **options: Any) -> Trainer:
    arguments = TrainingArguments(
        str(folder),
        **{
            "max_steps": STEPS, "per_device_train_batch_size": 4, "learning_rate": 0.03, "report_to": [], "use_cpu": True,
            "logging_steps": 1, "save_steps": 2, "seed": 3, "disable_tqdm": True, **options,
        },
    )  # fmt: skip
    return Trainer(model, arguments, train_dataset=rows(), eval_dataset=rows(8, 9), callbacks=list(callbacks))


def losses(done: Trainer, key: str = "loss") -> list[float]:
    return [entry[key] for entry in done.state.log_history if key in entry]


def fresh(method: str = "lora", seed: int = 1) -> tuple[Any, Adapted]:
    """A model with dropout and one fresh adapter that trains, its numbers a little off their start."""
    base = model_of("bert", torch.float32)
    handle = adapt(base)
    torch.manual_seed(seed)
    handle.add(method, "lang/new", METHODS[method].config)
    handle.activate("lang/new")
    handle.trainable("lang/new")
    return base, handle


def numbers(handle: Adapted, name: str = "lang/new") -> dict[str, torch.Tensor]:
    return {key: p.detach().clone() for key, p in handle.engine.adapters[name].room.named_parameters()}


class Stop(TrainerCallback):
    """Ends a run after some steps, as a crash would, but tidily."""

    def __init__(self, after: int):
        self.after = after

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        control.should_training_stop = state.global_step >= self.after
        return control


def test_a_trainers_losses_are_pefts(tmp_path: Path) -> None:
    """The same start, the same seed, dropout on: the same losses, evaluations and weights."""
    config = {"r": 3, "target_modules": ["query", "value"], "lora_dropout": 0.2}
    base = model_of("bert", torch.float32)
    peft_adapter(base, tmp_path / "start", "SEQ_CLS", **config)
    tuned = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "start", is_trainable=True)
    handle = adapt(base)
    handle.load(tmp_path / "start", "a")
    handle.activate("a")
    handle.trainable("a")
    runs = []
    for model, folder in ((tuned, "theirs"), (base, "ours")):
        runs.append(trainer(model, tmp_path / folder, eval_strategy="steps", eval_steps=2))
        runs[-1].train()
    theirs, ours = runs
    assert losses(ours) == pytest.approx(losses(theirs), abs=1e-5)
    assert losses(ours, "eval_loss") == pytest.approx(losses(theirs, "eval_loss"), abs=1e-5)
    assert len(losses(ours)) == STEPS and len(losses(ours, "eval_loss")) == STEPS / 2
    assert max(losses(ours)) - min(losses(ours)) > 1e-3
    tuned.save_pretrained(tmp_path / "theirs")
    handle.save("a", tmp_path / "saved")
    files = [load_file(tmp_path / folder / "adapter_model.safetensors") for folder in ("theirs", "saved", "start")]
    assert max(apart(files[1][key], files[0][key]) for key in files[0]) <= 1e-5
    assert max(apart(files[1][key], files[2][key]) for key in files[0]) > 0.01


@pytest.mark.parametrize("method", METHODS)
def test_resumed_is_uninterrupted_to_the_bit(method: str, tmp_path: Path) -> None:
    base, whole = fresh(method)
    started = numbers(whole)
    trainer(base, tmp_path / "whole", AdapterCheckpoints(whole)).train()
    base, handle = fresh(method)
    trainer(base, tmp_path / "cut", AdapterCheckpoints(handle), Stop(4)).train()
    base, handle = fresh(method, seed=2)
    trainer(base, tmp_path / "cut", AdapterCheckpoints(handle)).train(resume_from_checkpoint=True)
    expected, found = numbers(whole), numbers(handle)
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)
    assert any(not torch.equal(found[key], started[key]) for key in found)
    saved = load_file(tmp_path / "cut" / "checkpoint-6" / "model.safetensors")
    assert sorted(saved) == sorted(model_of("bert").state_dict())
    again = adapt(model_of("bert", torch.float32))
    again.load(tmp_path / "cut" / "checkpoint-6" / "adapters" / "lang%2Fnew", "kept")
    again.activate("kept")
    assert apart(logits(again.model, inputs_of("bert")), logits(base.eval(), inputs_of("bert"))) <= 1e-6


def test_a_fusion_comes_back_too(tmp_path: Path) -> None:
    def mixed(seed: int) -> tuple[Any, Adapted]:
        handle = noisy("bottleneck", "ab", model_of("bert", torch.float32))
        torch.manual_seed(seed)
        handle.add("fusion", "mix", {"of": ["a", "b"]})
        handle.activate(Fuse("a", "b", by="mix"))
        handle.trainable("mix")
        return handle.model, handle

    base, whole = mixed(1)
    trainer(base, tmp_path, AdapterCheckpoints(whole)).train()
    base, handle = mixed(2)
    trainer(base, tmp_path, AdapterCheckpoints(handle)).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    expected = numbers(whole, "mix")
    assert all(torch.equal(tensor, expected[key]) for key, tensor in numbers(handle, "mix").items())


def test_a_checkpoint_elsewhere_is_named(tmp_path: Path) -> None:
    base, whole = fresh()
    trainer(base, tmp_path / "whole", AdapterCheckpoints(whole)).train()
    moved = tmp_path / "moved"
    shutil.move(tmp_path / "whole" / "checkpoint-2", moved)
    base, handle = fresh(seed=2)
    with pytest.raises(NotFoundError, match="checkpoint-2 is no checkpoint"):
        trainer(base, tmp_path / "new", AdapterCheckpoints(handle)).train(resume_from_checkpoint=str(moved))
    run = trainer(base, tmp_path / "new", AdapterCheckpoints(handle, resume_from=moved))
    run.train(resume_from_checkpoint=str(moved))
    assert all(torch.equal(tensor, numbers(whole)[key]) for key, tensor in numbers(handle).items())
    one, other = (moved.parent / place / "adapters" for place in ("whole/checkpoint-4", "whole/checkpoint-6"))
    shutil.rmtree(one)
    shutil.copytree(other, one)
    with pytest.raises(IntegrityError, match="not the numbers"):
        AdapterCheckpoints(handle).restore(one.parent)
    shutil.rmtree(one)
    with pytest.raises(NotFoundError, match="holds no adapter 'lang/new'"):
        AdapterCheckpoints(handle).restore(one.parent)
    with pytest.raises(UnsupportedError, match="handle"):
        AdapterCheckpoints.from_state({})


def test_the_best_model_comes_back_at_the_end(tmp_path: Path) -> None:
    base, handle = fresh()
    seen: dict[int, dict[str, torch.Tensor]] = {}

    class Keep(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen[state.global_step] = numbers(handle)

    options = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2, "learning_rate": 0.3}
    done = trainer(base, tmp_path, AdapterCheckpoints(handle), Keep(), **options)
    done.train()
    best = min(seen, key=lambda step: losses(done, "eval_loss")[step // 2 - 1])
    assert best != STEPS, "a test whose last step is the best shows nothing"
    assert all(torch.equal(tensor, seen[best][key]) for key, tensor in numbers(handle).items())
    assert done.evaluate()["eval_loss"] == pytest.approx(min(losses(done, "eval_loss")), abs=1e-6)


def test_it_stops_where_it_can_not_save(tmp_path: Path) -> None:
    _, handle = fresh()
    state = type("State", (), {"is_hyper_param_search": True})()
    with pytest.raises(UnsupportedError, match="hyperparameter"):
        AdapterCheckpoints(handle).on_save(None, state, None)
    with pytest.raises(NotFoundError, match=r"trainer_state\.json"):
        AdapterCheckpoints(handle).restore(tmp_path)


@pytest.fixture
def alone() -> Iterator[None]:
    """accelerate keeps its state for the process: what other tests left goes, and so does what this one leaves."""
    forget()
    yield
    forget()


def forget() -> None:
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


def by_hand(method: str) -> dict[str, torch.Tensor]:
    """What ddp_run does, without accelerate."""

    class Plain:
        process_index = 0
        prepare = staticmethod(lambda *given: given)
        backward = staticmethod(torch.Tensor.backward)

    return ddp_run.train(method, Plain())  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
def test_accelerate_trains_as_a_plain_loop(method: str, alone: None) -> None:
    expected = by_hand(method)
    found = ddp_run.train(method, Accelerator(cpu=True))
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)


@pytest.mark.parametrize("method", METHODS)
def test_accelerate_in_bfloat16_trains_nearly_as_a_plain_loop(method: str, alone: None) -> None:
    expected = by_hand(method)
    found = ddp_run.train(method, Accelerator(cpu=True, mixed_precision="bf16"))
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert 0 < max(apart(found[key], expected[key]) for key in found) <= 0.05


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Each with half of every batch, and a start of its own that the first one's replaces."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "-m", "tests.tensor.ddp_run", str(tmp_path), *METHODS]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    for method in METHODS:
        first, second = (load_file(tmp_path / f"{method}-{rank}-of-2.safetensors") for rank in (0, 1))
        expected = by_hand(method)
        assert first.keys() == expected.keys() and all(torch.equal(first[key], second[key]) for key in first)
        assert max(apart(first[key], expected[key]) for key in first) <= 1e-5
