"""One training, from a recipe to a run folder with an adapter that was measured as it was saved."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from hubcli.errors import AdapterError, UnsupportedError
from hubcli.formats.weights import cast
from hubcli.hashes import sha256_of
from hubcli.method import HubcliWarning
from hubcli.out_folder import appearing
from hubcli.pretrained import pretrained, quiet
from hubcli.recipe import Recipe
from hubcli.trainer import digest
from hubcli.training import early, linears, run_folder
from hubcli.training import examples as data
from hubcli.training.arguments import CHECKPOINTS, arguments
from hubcli.training.callbacks import tied
from hubcli.training.examples import Examples
from hubcli.training.journal import Journal, Say
from hubcli.training.loop import Loop
from hubcli.training.metrics import Figure
from hubcli.training.plots import loss_plot
from hubcli.training.ready import ready
from hubcli.training.run_folder import Json
from hubcli.training.run_lock import held
from hubcli.training.setup import Locate, Setup, free_name, prepared, seeded

ADAPTER, MODEL = "adapter", "model"
TOKENIZERS = (".json", ".txt", ".model", ".jinja", ".tiktoken")  # how names of files end that say what text becomes
MEASURED = ("validation", "test")


def train(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    force: bool = False,
    keep_checkpoints: bool = False,
    locate: Locate | None = None,
    offline: bool | str = False,
    token: str | None = None,
    say: Say | None = None,
    bar: bool = False,
) -> Json:
    """Train, save, measure what was saved. What run.json says.

    Args:
        folder: of the run. resume: go on from its last whole checkpoint: on a CPU the same numbers come out as without a
            break. force: replace a run. keep_checkpoints: leave them there at the end.
        locate: finds the adapters that a fusion is over. say: is told a line after each evaluation. bar: show a bar instead,
            where stderr is a terminal.

    Raises:
        UsageError: E_RECIPE, E_DATA; a folder that can't be used. BusyError: another training is at work in it.
            IntegrityError: the run began with other data or models. Other errors as `prepared` and `Adapted.save`.
    """
    with contextlib.ExitStack() as stack:
        there = _found(recipe, folder, stack, resume=resume, force=force)
        if resume and there is not None and there["status"] == run_folder.DONE:
            return there
        examples = data.load(recipe, offline=offline, token=token)
        early.check(recipe, examples.labels, examples.parts)
        stack.enter_context(_determined(recipe))
        stack.enter_context(quiet())
        args = arguments(recipe, folder, steps=bool(examples.parts["validation"]))
        setup = prepared(recipe, examples.labels, locate=locate, offline=offline, token=token)
        cut = ready(recipe, setup.task, examples.parts)
        loop = Loop(setup, args, examples.parts)
        journal = Journal(folder, loop.metric, say, bar=bar and args.should_save)
        loop.tick = journal.tick
        loop.add_callback(journal)
        if args.should_save:
            _begin(setup, folder, examples, there if resume else None)
        args.distributed_state.wait_for_everyone()
        report = _trained(setup, loop, journal, examples, folder)
        if args.should_save:
            loss_plot(folder, loop.metric)
            report["cut"] = cut
            run_folder.write(folder, report)
            if not keep_checkpoints:
                shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        args.distributed_state.wait_for_everyone()
        return report


def _found(recipe: Recipe, folder: Path, stack: contextlib.ExitStack, **how: bool) -> Json | None:
    """What is there of a run that may be gone on with, or replaced. The process that will write there holds the folder."""
    found = run_folder.check(folder, recipe, **how)
    if found is not None and how["resume"] and found["status"] == run_folder.DONE:
        return found
    if os.environ.get("RANK", "0") == "0":
        stack.enter_context(held(folder))
    return run_folder.check(folder, recipe, **how)


def _begin(setup: Setup, folder: Path, examples: Examples, there: Json | None) -> None:
    """Make the folder ready, in the one process that writes there; `there` is what it goes on with."""
    others = [name for name in (setup.handle.adapters if setup.handle else ()) if name != setup.name]
    made_of: Json = {
        "data": list(examples.files),
        "base": setup.base().to_json(),
        "adapters": [{"name": name, "sha256": digest(setup.handle, name)} for name in others if setup.handle],
        "tokenizer": _tokenizer(setup.recipe),
    }
    if there is not None and run_folder.ready(folder):
        run_folder.check_same(folder, there, made_of)
        run_folder.sweep(folder)
        run_folder.last_checkpoint(folder)
    else:
        run_folder.begin(folder, setup.recipe, made_of)


def _tokenizer(recipe: Recipe) -> list[Json]:
    """The files of the tokenizer that stands in for the base's own; a model may lie beside them."""
    if recipe.base.tokenizer is None:
        return []
    files = sorted(recipe.place(recipe.base.tokenizer).iterdir())
    return [{"name": file.name, "sha256": sha256_of(file)} for file in files if file.suffix in TOKENIZERS]


def _trained(setup: Setup, loop: Loop, journal: Journal, examples: Examples, folder: Path) -> Json:
    """Train from the last checkpoint on, save, and measure; what run.json says, of the process that writes it."""
    counts, checkpoint = setup.counts(), run_folder.last_checkpoint(folder)
    if loop.args.process_index:  # each process has other rows: they are dropped out by chances of their own
        seeded(setup.recipe.seed + loop.args.process_index)
    try:
        loop.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    finally:
        journal.close()
    loop.check_finite()
    if loop.args.load_best_model_at_end and loop.args.should_save and (said := tied(loop.state, loop.metric)):
        warnings.warn(said, HubcliWarning, stacklevel=3)
    saved = folder / _saved(setup, loop, folder)
    figures = _measured(setup, loop, examples, saved)
    if not loop.args.should_save:
        return {}
    return _report(setup, loop, journal, examples, figures, counts, saved)


@contextlib.contextmanager
def _determined(recipe: Recipe) -> Iterator[None]:
    """The recipe's number of threads, and operations that give the same numbers each time; then what was before."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what CUDA needs for that
    torch.use_deterministic_algorithms(True, warn_only=True)
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict, warn_only=warns)
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def _saved(setup: Setup, loop: Loop, folder: Path) -> str:
    """Write what was trained; it appears whole. The name of its folder."""
    name = MODEL if setup.handle is None else ADAPTER
    if loop.args.should_save:
        with appearing(folder / name, replace=True) as place:
            if setup.handle is None:
                setup.model.save_pretrained(place)
                for tool in (setup.tokenizer, setup.task.tools.processor):
                    if tool is not None:
                        tool.save_pretrained(place)
            else:
                _save_adapter(setup, place)
    loop.args.distributed_state.wait_for_everyone()
    return name


def _save_adapter(setup: Setup, place: Path) -> None:
    """In the recipe's format and dtype; without a format in the first that can say what the adapter does."""
    assert setup.handle is not None and setup.name is not None
    spec = setup.recipe.method
    own = spec.tokenizer or setup.recipe.base.tokenizer is not None
    tokenizer = setup.tokenizer if own else None
    tried: list[AdapterError] = []
    for format in (spec.format,) if spec.format else ("peft", "hubcli", "adapterhub"):
        try:
            setup.handle.save(setup.name, place, format, tokenizer=tokenizer)
            break
        except UnsupportedError as error:
            tried.append(error)
            if spec.format:
                raise
    else:
        raise tried[0]
    if spec.save_dtype != "float32":
        for file in sorted(place.glob("*.safetensors")):
            cast(file, spec.save_dtype)


def _measured(setup: Setup, loop: Loop, examples: Examples, saved: Path) -> dict[str, list[Figure]]:
    """The figures of what was saved, read back from its folder: what others will get."""
    with _read_back(setup, saved):
        return {part: loop.judged(examples.parts[part]) for part in MEASURED if examples.parts[part]}


@contextlib.contextmanager
def _read_back(setup: Setup, saved: Path) -> Iterator[None]:
    """What was saved in the place of what trained; then that again."""
    handle, trained = setup.handle, setup.model
    if handle is None:
        found = pretrained(type(trained).__name__, str(saved), {"dtype": trained.dtype, "local_files_only": True})
        setup.model = found.to(trained.device)
        try:
            yield
        finally:
            setup.model = trained
        return
    name = handle.load(saved, free_name(handle, "saved"))
    handle.activate(setup.expression(name))
    try:
        yield
    finally:
        handle.activate(setup.expression())
        handle.detach(name)


def _report(
    setup: Setup,
    loop: Loop,
    journal: Journal,
    examples: Examples,
    figures: dict[str, list[Figure]],
    counts: dict[str, int],
    saved: Path,
) -> Json:
    recipe, state = setup.recipe, loop.state
    dataset = recipe.data.name or recipe.data.dataset or Path(examples.files[0].get("path", "")).parent.name or "data"
    return {
        "v": run_folder.V,
        "status": run_folder.DONE,
        "name": recipe.name,
        "path": str(saved),
        "recipe_sha256": recipe.digest(),
        "task": recipe.task,
        "method": recipe.method.name,
        "config": recipe.method.config,
        "base": setup.base().to_json(),
        "seed": recipe.seed,
        "pipeline": setup.task.pipeline,
        "head": {"labels": list(examples.labels), "modules": setup.head_modules()},
        "rows": {part: len(rows) for part, rows in examples.parts.items()},
        "data": list(examples.files),
        "parameters": counts,
        "linears": linears.memory(setup),
        "steps": state.global_step,
        "epochs": state.epoch,
        "seconds_per_epoch": journal.seconds_per_epoch(loop.order.steps),
        "peak_memory": journal.peak,
        "best": _best(loop),
        "metrics": [
            {**asdict(figure), "dataset": dataset, "split": part, "seed": recipe.seed}
            for part, found in figures.items()
            for figure in found
        ],
        "files": [_row(file) for file in sorted(saved.iterdir()) if file.is_file()],
        "versions": run_folder.versions(),
    }


def _best(loop: Loop) -> Json | None:
    """Which checkpoint was kept: its step and figure."""
    if not loop.args.load_best_model_at_end or loop.state.best_metric is None:
        return None
    return {"step": loop.state.best_global_step, "metric": loop.metric, "value": loop.state.best_metric}


def _row(file: Path) -> Json:
    return {"path": file.name, "size": file.stat().st_size, "sha256": sha256_of(file)}
