"""What a run keeps beside its numbers, so that it goes on as it began: patience, the best checkpoint, data, times, its folder."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file

from hubcli.errors import BusyError, IntegrityError, NotFoundError, UsageError
from hubcli.recipe import Recipe, made
from hubcli.schema import check
from hubcli.training import journal, run_folder
from hubcli.training import train as training
from hubcli.training.callbacks import Epochs, whole
from hubcli.training.compare import plan
from hubcli.training.run_lock import LOCK, held
from hubcli.training.train import train
from tests.support.trainable import document, jsonl, recipe, reviews

EPOCH = 7  # steps: 25 of 48 rows, in batches of 4


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


def killed(found: Recipe, folder: Path, step: int | None = None, **options: Any) -> None:
    """Train until the checkpoint of a step is written, or until all is trained."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        saved = Epochs.on_save

        def on_save(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            saved(self, args, state, control, **kwargs)
            if state.global_step == step:
                raise Killed

        def ended(*args: Any) -> str:
            raise Killed

        patch.setattr(Epochs, "on_save", on_save)
        patch.setattr(training, "_saved", ended)
        train(found, folder, **options)


def adapter(run: Path) -> bytes:
    return (run / "adapter/adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("step", [3 * EPOCH, 4 * EPOCH, None])
def test_patience_is_counted_on(step: int | None, bert: Path, rows: Path, tmp_path: Path) -> None:
    """Nothing is learnt: the first epoch is the best one, and three more are waited for."""
    given = {"epochs": 8, "learning_rate": 1e-7, "metric": "accuracy", "early_stopping": {"patience": 3}}
    found = recipe(tmp_path, bert, rows, train=given)
    killed(found, tmp_path / "run", step)
    report = train(found, tmp_path / "run", resume=True)
    assert (report["steps"], report["best"]["step"]) == (4 * EPOCH, EPOCH)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_best_checkpoint_is_found_where_the_run_is_now(method: str, bert: Path, rows: Path, tmp_path: Path) -> None:
    """Nothing is learnt: of equal figures the first one is the best."""
    given = {"epochs": 4, "learning_rate": 1e-7, "metric": "accuracy"}
    found = recipe(tmp_path, bert, rows, method=method, train=given)
    expected = train(found, tmp_path / "whole")
    assert expected["best"]["step"] == EPOCH
    killed(found, tmp_path / "before")
    (tmp_path / "before").rename(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "gone")
    report = train(found, tmp_path / "run", resume=True)
    assert report["best"] == expected["best"]
    (one,), (other,) = (sorted(Path(run["path"]).glob("*.safetensors")) for run in (expected, report))
    assert one.read_bytes() == other.read_bytes()
    shutil.rmtree(tmp_path / f"gone/checkpoints/checkpoint-{EPOCH}")
    with pytest.raises(NotFoundError, match="the best checkpoint of this run is gone"):
        train(found, tmp_path / "gone", resume=True)


def test_a_run_goes_on_with_the_data_and_the_base_that_it_began_with(bert: Path, rows: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(bert, tmp_path / "base"))
    data = jsonl(tmp_path / "data.jsonl", reviews())
    found = recipe(tmp_path, base, data)
    killed(found, tmp_path / "run", EPOCH)
    run = plan.Run("lora", 0, found, tmp_path / "run", "")
    jsonl(data, reviews(seed=9))
    with pytest.raises(IntegrityError, match="begun with another data"):
        train(found, tmp_path / "run", resume=True)
    there = [{"part": "train", "sha256": "0" * 64}]
    with pytest.raises(UsageError, match="a run of other data"):
        plan.found(run, there, force=False)
    jsonl(data, reviews())
    tensors = load_file(base / "model.safetensors")
    from safetensors.torch import save_file

    save_file({key: tensor + 1 for key, tensor in tensors.items()}, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(IntegrityError, match="begun with another base"):
        train(found, tmp_path / "run", resume=True)
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    document = json.loads((tmp_path / "run/run.json").read_text())
    assert plan.found(run, document["data"], force=False).state == plan.BROKEN_OFF
    for key in ("data", "base", "adapters"):  # as an earlier hubcli began it
        del document[key]
    (tmp_path / "run/run.json").write_text(json.dumps(document))
    assert plan.found(run, there, force=False).state == plan.BROKEN_OFF
    assert train(found, tmp_path / "run", resume=True)["status"] == "done"


def test_a_fusion_goes_on_over_the_adapters_that_it_began_with(bert: Path, rows: Path, tmp_path: Path) -> None:
    config = {"mh_adapter": True, "output_adapter": True, "reduction_factor": 4, "non_linearity": "gelu"}
    for seed, name in enumerate("abc"):
        given = document(bert, rows, method="bottleneck", seed=seed, train={"epochs": 0.2})
        given["method"]["config"] = config
        train(made(given, tmp_path), tmp_path / name)
    method = {"name": "fusion", "config": {"of": ["a", "b"]}, "adapters": {"a": "a/adapter", "b": "b/adapter"}}
    found = made({**document(bert, rows), "method": method}, tmp_path)
    killed(found, tmp_path / "run", EPOCH)
    shutil.rmtree(tmp_path / "b")
    (tmp_path / "c").rename(tmp_path / "b")
    with pytest.raises(IntegrityError, match="begun with another adapters"):
        train(found, tmp_path / "run", resume=True)


def test_a_run_goes_on_with_the_tokenizer_and_the_images_that_it_began_with(
    bert: Path, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    """Of both the recipe says only where they are."""
    tokens = Path(shutil.copytree(bert, tmp_path / "tokens"))
    given = document(bert, jsonl(tmp_path / "rows.jsonl", reviews()))
    read = made({**given, "base": {**given["base"], "tokenizer": str(tokens)}}, tmp_path)
    killed(read, tmp_path / "run", EPOCH)
    text = (tokens / "tokenizer.json").read_text()
    (tokens / "tokenizer.json").write_text(text.replace('"good": 7', '"good": 8').replace('"bad": 8', '"bad": 7'))
    assert (tokens / "tokenizer.json").read_text() != text
    with pytest.raises(IntegrityError, match="begun with another tokenizer"):
        train(read, tmp_path / "run", resume=True)

    paint = lambda n, shade: Image.new("L", (8, 8), shade + n).save(tmp_path / f"{n}.png")  # noqa: E731
    for n in range(16):
        paint(n, 10)
    images = jsonl(tmp_path / "images.jsonl", [{"image": f"{n}.png", "label": "ab"[n % 2]} for n in range(16)])
    split = {"by": "random", "validation": 0.25, "test": 0.0}
    seen = recipe(tmp_path, bases("vit"), images, task="IMG_CLS", method="full", split=split)
    killed(seen, tmp_path / "seen", 3)
    paint(5, 200)
    with pytest.raises(IntegrityError, match="begun with another data"):
        train(seen, tmp_path / "seen", resume=True)
    paint(5, 10)
    train(seen, tmp_path / "seen", resume=True)
    assert not check(run_folder.read(tmp_path / "seen") or {}, "cli/train")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at it is a second later, so each step takes one."""

    class Clock:
        now = 0.0

        @classmethod
        def perf_counter(cls) -> float:
            cls.now += 1
            return cls.now

    monkeypatch.setattr(journal, "time", Clock)


@pytest.mark.parametrize("length", [{"epochs": 1}, {"epochs": 0.34}, {"max_steps": 2}])
def test_an_epoch_takes_as_long_as_its_steps(
    length: dict[str, Any], clock: None, bert: Path, rows: Path, tmp_path: Path
) -> None:
    given = document(bert, rows)
    del given["train"]["epochs"]
    given["train"] |= length
    assert train(made(given, tmp_path), tmp_path / "run")["seconds_per_epoch"] == EPOCH


def test_what_was_timed_before_a_kill_counts(clock: None, bert: Path, rows: Path, tmp_path: Path) -> None:
    found = recipe(tmp_path, bert, rows)
    killed(found, tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "old")
    assert train(found, tmp_path / "run", resume=True)["seconds_per_epoch"] == EPOCH
    for file in (tmp_path / "old/checkpoints").glob("*/trainer_state.json"):
        state = json.loads(file.read_text())
        del state["stateful_callbacks"]["Journal"]
        file.write_text(json.dumps(state))
    assert train(found, tmp_path / "old", resume=True)["seconds_per_epoch"] is None


def test_one_training_at_a_time_in_a_folder(bert: Path, rows: Path, tmp_path: Path) -> None:
    found, refused = recipe(tmp_path, bert, rows, train={"epochs": 1}), []

    def say(line: str) -> None:
        del line
        for how in ("resume", "force"):
            with pytest.raises(BusyError, match="another training is at work"):
                train(found, tmp_path / "run", **{how: True})
            refused.append(how)

    train(found, tmp_path / "run", say=say)
    assert refused == ["resume", "force"]
    assert not (tmp_path / "run" / LOCK).exists()
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / LOCK).touch()
    assert run_folder.check(tmp_path / "killed", found, resume=False, force=False) is None
    with held(tmp_path / "new/run"):
        pass
    assert not (tmp_path / "new").exists()
    with held(tmp_path / "killed"), pytest.raises(BusyError), held(tmp_path / "killed"):
        pass


def dies_at(patch: pytest.MonkeyPatch, operation: int) -> None:
    """Before the nth time that something is written or taken away."""
    left = [operation]

    def counted(done: Callable[..., Any]) -> Callable[..., Any]:
        def work(*args: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return done(*args, **options)

        return work

    patch.setattr(run_folder.toml_file, "write", counted(run_folder.toml_file.write))
    patch.setattr(run_folder.shutil, "rmtree", counted(shutil.rmtree))
    patch.setattr(Path, "unlink", counted(Path.unlink))


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("operation", range(6))
def test_a_kill_while_a_run_begins(operation: int, anew: bool, bert: Path, rows: Path, tmp_path: Path) -> None:
    folder, old, new = tmp_path / "run", recipe(tmp_path, bert, rows), recipe(tmp_path, bert, rows, seed=5)
    folder.mkdir()
    if anew:
        run_folder.begin(folder, old, {})
        (folder / "checkpoints/checkpoint-6").mkdir(parents=True)
        (folder / "metrics.jsonl").touch()
    with pytest.MonkeyPatch.context() as patch:
        dies_at(patch, operation)
        with contextlib.suppress(Killed):
            run_folder.begin(folder, new, {})
    if not run_folder.ready(folder) and run_folder.read(folder) is not None:
        for how in (old, new):
            if run_folder.same(folder, how):  # --resume begins anew: nothing of the old run is gone on with
                assert run_folder.check(folder, how, resume=True, force=False) is not None
    run_folder.check(folder, new, resume=False, force=True)
    run_folder.begin(folder, new, {})
    assert run_folder.same(folder, new) and {path.name for path in folder.iterdir()} == {"run.json", "recipe.toml"}
    assert run_folder.check(folder, new, resume=True, force=False) is not None


def test_a_run_that_was_killed_while_it_began_is_resumed(bert: Path, rows: Path, tmp_path: Path) -> None:
    found = recipe(tmp_path, bert, rows, train={"epochs": 1})
    train(found, tmp_path / "whole")
    killed(found, tmp_path / "run", EPOCH)
    (tmp_path / "run/recipe.toml").unlink()
    train(found, tmp_path / "run", resume=True)
    assert adapter(tmp_path / "run") == adapter(tmp_path / "whole")
    killed(found, tmp_path / "other", EPOCH)
    (tmp_path / "other/run.json").unlink()  # as an earlier hubcli could leave it
    with pytest.raises(UsageError, match="holds no run"):
        train(found, tmp_path / "other")
    train(found, tmp_path / "other", force=True)
    assert adapter(tmp_path / "other") == adapter(tmp_path / "whole")


def test_a_checkpoint_that_was_being_taken_away_is_none(bert: Path, rows: Path, tmp_path: Path) -> None:
    found = recipe(tmp_path, bert, rows)
    killed(found, tmp_path / "run", 2 * EPOCH)
    last, before = (tmp_path / f"run/checkpoints/checkpoint-{step}" for step in (2 * EPOCH, EPOCH))
    assert whole(before) and run_folder.last_checkpoint(tmp_path / "run") == last
    names = [path.relative_to(last) for path in sorted(last.rglob("*")) if path.is_file()]
    assert len(names) > 4
    for name in names:
        kept = (last / name).read_bytes()
        (last / name).unlink()
        assert not whole(last)
        (last / name).write_bytes(kept)
        assert whole(last)
    (last / "complete").write_text("")  # as an earlier hubcli marked it
    assert whole(last)
    (last / "trainer_state.json").unlink()
    assert run_folder.last_checkpoint(tmp_path / "run") == before and not last.exists()


def test_a_full_fine_tuning_is_saved_as_it_was_trained(bert: Path, rows: Path, tmp_path: Path) -> None:
    given = document(bert, rows)
    given["method"]["save_dtype"] = "float16"
    with pytest.raises(UsageError, match="no config, head, quantize, format or save_dtype"):
        made({**given, "method": {"name": "full", "save_dtype": "float16"}}, tmp_path)
    assert plan.recipe_of(made(given, tmp_path), "full").method.save_dtype == "float32"
    assert plan.recipe_of(made(given, tmp_path), "bitfit").method.save_dtype == "float16"
