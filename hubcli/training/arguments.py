"""A recipe in the words of transformers."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from transformers import TrainingArguments

from hubcli.errors import UsageError
from hubcli.recipe import Recipe

CHECKPOINTS = "checkpoints"


def arguments(recipe: Recipe, folder: Path, *, steps: bool) -> TrainingArguments:
    """The arguments of a Trainer.

    Args:
        folder: of the run. steps: whether there is anything to measure on while it trains.

    Raises:
        UsageError: a batch that can't be shared out.
    """
    spec = recipe.train
    on_cpu = recipe.base.device in (None, "cpu")
    every = {"eval_steps": spec.evaluate, "save_steps": spec.evaluate} if spec.evaluate else {}
    when = "steps" if spec.evaluate else "epoch"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of arguments that Trainer would choose otherwise
        made = TrainingArguments(
            output_dir=str(folder / CHECKPOINTS),
            use_cpu=on_cpu,
            ddp_backend="gloo" if on_cpu and int(os.environ.get("WORLD_SIZE", "1")) > 1 else None,
            seed=recipe.seed,
            num_train_epochs=spec.epochs,
            max_steps=spec.max_steps or -1,
            per_device_eval_batch_size=spec.eval_batch_size,
            gradient_accumulation_steps=spec.gradient_accumulation,
            gradient_checkpointing=spec.gradient_checkpointing,
            bf16=spec.precision == "bf16",
            fp16=spec.precision == "fp16",
            optim=spec.optimiser,
            learning_rate=spec.learning_rate,
            lr_scheduler_type=spec.schedule,
            warmup_steps=spec.warmup if spec.warmup < 1 else 0,
            weight_decay=spec.weight_decay,
            max_grad_norm=spec.max_grad_norm,
            eval_strategy=when if steps else "no",
            save_strategy=when,
            **every,
            save_total_limit=2,  # the best one and the last one: a kill while one is written leaves the other
            load_best_model_at_end=steps and spec.keep == "best",
            logging_steps=spec.log,
            logging_nan_inf_filter=False,
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            label_names=["labels"],
        )
    if made.n_gpu > 1:
        made._n_gpu = 1  # several GPUs are several processes; copies of a model in one have no adapter
    made.per_device_train_batch_size = _share(recipe, made.world_size)
    return made


def _share(recipe: Recipe, processes: int) -> int:
    """The rows that one process takes at once, so that a step has `batch_size` rows in all."""
    parts = processes * recipe.train.gradient_accumulation
    if recipe.train.batch_size % parts:
        raise UsageError(
            f"train.batch_size: expected a multiple of {parts} ({processes} processes × "
            f"{recipe.train.gradient_accumulation} accumulated), found {recipe.train.batch_size}",
            id="E_RECIPE",
        )
    return recipe.train.batch_size // parts
