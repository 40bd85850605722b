"""What Trainer is told on the way, so that a run that was killed goes on as if it had not been."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback

from hubcli import toml_file
from hubcli.errors import NotFoundError
from hubcli.training.order import Order

COMPLETE = "complete"  # the last file of a checkpoint, which names the others: without it, it was cut short
STATE = "trainer_state.json"


def whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end, and nothing of it was taken away since."""
    mark = checkpoint / COMPLETE
    if not mark.is_file():
        return False
    return all((checkpoint / name).is_file() for name in (STATE, *mark.read_text(encoding="utf-8").splitlines()))


def tied(state: Any, metric: str) -> str | None:
    """What is said where a later checkpoint is as good as the one that is kept, and loses less; None where there is none.

    Args:
        state: a Trainer's. metric: what the best one is chosen by.
    """
    name = f"eval_{metric}"
    measured = {line["step"]: line for line in state.log_history if name in line and "eval_loss" in line}
    kept = measured.get(state.best_global_step)
    if kept is None:
        return None
    alike = [line for line in measured.values() if line[name] == kept[name]]
    least = min(alike, key=lambda line: line["eval_loss"])
    if least["eval_loss"] >= kept["eval_loss"]:
        return None
    return (
        f"{len(alike)} checkpoints are equal in {metric} ({kept[name]:.4g}): the first, of step {kept['step']}, is kept; "
        f"that of step {least['step']} has a lower loss on validation ({least['eval_loss']:.3g}, not {kept['eval_loss']:.3g}), "
        'by which train.metric = "loss" chooses'
    )


class Epochs(TrainerCallback):  # type: ignore[misc]
    """Tells the order of rows which epoch begins, marks checkpoints as whole, and finds the best one again."""

    def __init__(self, order: Order):
        self.order = order

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The best checkpoint is looked for where the run is now: it may have been moved, or begun from another folder.

        Raises:
            NotFoundError: it is gone.
        """
        del control, kwargs
        if not (args.load_best_model_at_end and state.global_step and state.best_global_step):
            return
        best = Path(args.output_dir) / f"checkpoint-{state.best_global_step}"
        if not whole(best):
            raise NotFoundError(f"{best}: the best checkpoint of this run is gone", hint="--force trains anew")
        state.best_model_checkpoint = str(best)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A resumed epoch is the one that was broken off."""
        del args, control, kwargs
        self.order.set_epoch(math.floor((state.epoch or 0) + 1e-6))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After everything else of the checkpoint was written."""
        del control, kwargs
        if args.should_save:
            made = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            names = sorted(path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file())
            toml_file.write(made / COMPLETE, "".join(f"{name}\n" for name in names))


class EarlyStopping(EarlyStoppingCallback):  # type: ignore[misc]
    """transformers' own, which goes on counting where a resumed run left off."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The count of the checkpoint; a run that had stopped already stops."""
        super().on_train_begin(args, state, control, **kwargs)
        name = type(self).__name__
        kept = state.stateful_callbacks.setdefault(name, self.state())
        self.early_stopping_patience_counter = kept["attributes"]["early_stopping_patience_counter"]
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True
