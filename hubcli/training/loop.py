"""transformers' Trainer for a recipe: `accelerate launch` and its configs apply to it as to any other."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainingArguments, get_scheduler
from transformers.trainer_utils import SchedulerType

from hubcli.errors import MissingExtraError, UnsupportedError, UsageError
from hubcli.trainer import AdapterCheckpoints
from hubcli.training.callbacks import EarlyStopping, Epochs
from hubcli.training.examples import Example
from hubcli.training.metrics import LOWER_IS_BETTER, Figure, without_intervals
from hubcli.training.order import Order
from hubcli.training.setup import Setup
from hubcli.training.tasks.base import Feature, Tick, length_of


class Loop(Trainer):  # type: ignore[misc]
    """Trainer with the recipe's order of rows, penalties, and judge; its checkpoints hold no frozen base."""

    loss_is_scaled_for_ga = True  # compute_loss has seen to it

    def __init__(
        self, setup: Setup, args: TrainingArguments, parts: dict[str, list[Example]], tick: Tick | None = None
    ):
        self.setup, self.parts, self.tick = setup, parts, tick
        spec = setup.recipe.train
        rows: list[Feature] = setup.task.features(parts["train"])
        self.order = Order([length_of(row) for row in rows], spec.batch_size, args.seed, by_length=spec.group_by_length)
        self.metric = spec.metric or setup.task.first
        args.metric_for_best_model = f"eval_{self.metric}"
        args.greater_is_better = self.metric not in LOWER_IS_BETTER
        _check_names(args, setup.model)
        with _carries_adapters(setup):
            super().__init__(
                setup.model,
                args,
                data_collator=setup.task.collate,
                train_dataset=rows,
                eval_dataset=parts["validation"] or None,
            )
        self.remove_callback(PrinterCallback)
        self._add_callbacks(spec)

    def _add_callbacks(self, spec: Any) -> None:
        if self.setup.handle is not None:
            self.add_callback(AdapterCheckpoints(self.setup.handle))
        if spec.early_stopping is not None:
            stop = spec.early_stopping
            self.add_callback(EarlyStopping(stop["patience"], stop.get("threshold", 0.0)))
        self.add_callback(Epochs(self.order))

    def _run_epoch(self, *args: Any, **options: Any) -> None:
        """No step more where the run that is resumed had stopped."""
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **options)

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:
        del train_dataset
        return self.order

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The recipe's optimiser; the task head may learn at a rate of its own."""
        rate = self.setup.recipe.train.head_learning_rate
        if rate is not None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer: Any = self.optimizer or kind(self._groups(rate), **options)
        made: torch.optim.Optimizer = super().create_optimizer(model)
        return made

    def _groups(self, rate: float) -> list[dict[str, Any]]:
        heads, decayed = self.setup.heads(), set(self.get_decay_parameter_names(self.model))
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                groups.setdefault((id(parameter) in heads, name in decayed), []).append(parameter)
        return [
            {
                "params": parameters,
                "weight_decay": self.args.weight_decay if decays else 0.0,
                "lr": rate if of_head else self.args.learning_rate,
            }
            for (of_head, decays), parameters in groups.items()
        ]

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The parts of a step, and how many labels count in them, of all processes."""
        parts = list(islice(epoch_iterator, num_batches))
        counted = torch.tensor(sum(self.setup.task.counted(part["labels"]) for part in parts), device=device)
        return parts, self.accelerator.gather(counted).sum()

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean loss of a step's labels, `l2` · Σ θ² of what trains, and what a fusion adds.

        A model's loss is the mean over the labels that it was given: however a step is cut into parts and shared among
        processes, each part has the weight of its labels. DDP then takes the mean of the processes.
        """
        outputs = model(**inputs)
        counted = self.setup.task.counted(inputs["labels"])
        own = (
            outputs["loss"] * (counted / num_items_in_batch * self.args.world_size)
            if counted
            else outputs["logits"].sum() * 0  # the mean over no label is no number
        )
        loss = own + self.penalty().to(own.device) / self.current_gradient_accumulation_steps
        return (loss, outputs) if return_outputs else loss

    def penalty(self) -> Tensor:
        """What is added to a step's loss."""
        weight, handle = self.setup.recipe.train.l2, self.setup.handle
        total = torch.zeros(()) if handle is None else handle.penalty()
        if weight:
            total = total + weight * torch.stack([p.float().square().sum() for p in self.setup.parameters()]).sum()
        return total

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        """The task's figures on the validation rows."""
        del eval_dataset, ignore_keys
        self.check_finite()
        with self.autocast_smart_context_manager(), without_intervals():
            figures = self.judged(self.parts["validation"])
        found = {f"{metric_key_prefix}_{figure.name}": figure.value for figure in figures}
        if not math.isfinite(found[self.args.metric_for_best_model]):
            raise self._diverged(f"{self.metric} is {found[self.args.metric_for_best_model]}")
        self.log(found)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As Trainer's, once it is sure that there is something to go on with."""
        if not math.isfinite(logs.get("loss", 0.0)):
            raise self._diverged(f"the loss is {logs['loss']}")
        super().log(logs, start_time)

    def check_finite(self) -> None:
        """Refuse to keep what is no number.

        Raises:
            UnsupportedError: training diverged.
        """
        if not all(bool(parameter.isfinite().all()) for parameter in self.setup.parameters()):
            raise self._diverged("weights are no finite numbers")

    def _diverged(self, why: str) -> UnsupportedError:
        return UnsupportedError(
            f"training diverged: {why} at step {self.state.global_step}", hint="a smaller train.learning_rate"
        )

    def judged(self, rows: Sequence[Example]) -> list[Figure]:
        """The figures of rows, in the base's own precision; several processes share the work."""
        task, model, was = self.setup.task, self.setup.speaks(), self.setup.model.training
        size, of = self.args.process_index, self.args.world_size
        self.setup.model.eval()
        try:
            with torch.no_grad():
                answers = task.answers(model, rows[size::of], self.args.per_device_eval_batch_size, self.tick)
        finally:
            self.setup.model.train(was)
        return task.figures(rows, _joined(answers, len(rows), of), self.args.seed)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if self.setup.handle is None:
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            Path(output_dir or self.args.output_dir).mkdir(parents=True, exist_ok=True)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.setup.handle is None:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if self.setup.handle is None:
            super()._load_best_model()


def _check_names(args: TrainingArguments, model: nn.Module) -> None:
    """Ask for the optimiser and the schedule once, before a Trainer makes a folder.

    Raises:
        MissingExtraError: the optimiser needs a package. UsageError: one of them needs numbers that no recipe has.
    """
    name = args.optim.value
    try:
        Trainer.get_optimizer_cls_and_kwargs(args, model)
    except ImportError as error:
        raise MissingExtraError(f"train.optimiser: {name} needs a package that is missing", cause=str(error)) from error
    except ValueError as error:
        raise UsageError(f"train.optimiser: {name} can't be used", cause=str(error), id="E_RECIPE") from error
    schedule = args.lr_scheduler_type
    try:
        if schedule == SchedulerType.REDUCE_ON_PLATEAU:
            raise ValueError("it needs a direction")
        get_scheduler(schedule, torch.optim.SGD([torch.zeros(1)], lr=1.0), 1, 10)
    except (TypeError, ValueError) as error:
        message = f"train.schedule: {schedule.value} needs numbers that a recipe can't give"
        raise UsageError(message, cause=str(error), id="E_RECIPE") from error


def _joined(answers: list[Any], rows: int, processes: int) -> list[Any]:
    """The answers of all processes in the order of the rows."""
    if processes == 1:
        return answers
    from accelerate.utils import gather_object

    found: list[Any] = [None] * rows
    lots: list[list[Any]] = gather_object([answers])
    for at, lot in enumerate(lots):
        found[at::processes] = lot
    return found


@contextlib.contextmanager
def _carries_adapters(setup: Setup) -> Iterator[None]:
    """Trainer takes a quantised base only where peft's mark says that adapters are on it: ours are as good."""
    if setup.handle is None:
        yield
        return
    setup.model._hf_peft_config_loaded = True
    try:
        yield
    finally:
        del setup.model._hf_peft_config_loaded
