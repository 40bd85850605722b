"""What is told and written while a training goes on: a bar or lines on stderr, and metrics.jsonl."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from hubcli.training.run_folder import peak_memory

METRICS = "metrics.jsonl"
EVERY = 30.0  # seconds between the lines of a training without evaluations
Say = Callable[[str], None]


class Journal(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Follows one training.

    Args:
        folder: of the run. metric: what stands beside the loss. say: told a line after each evaluation, or now and then where
            there are none; None where a bar shows the same, or nobody looks.
    """

    def __init__(self, folder: Path, metric: str, say: Say | None, *, bar: bool):
        self.file, self.metric, self.say = folder / METRICS, metric, say
        self.shows = bar and sys.stderr is not None and sys.stderr.isatty()
        self.bar: Any = None
        self.measuring: Any = None
        self.shown: dict[str, str] = {}
        self.said = -EVERY
        self.peak: int | None = None
        self.whole = True  # nothing was trained by a process before
        self.steps, self.seconds, self.began, self.first, self.start = 0, 0.0, 0.0, 0.0, 0

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: how many steps were timed, and how long they took."""
        return {"args": {}, "attributes": {"steps": self.steps, "seconds": self.seconds}}

    def seconds_per_epoch(self, steps: int) -> float | None:
        """Of an epoch of so many steps; None where no step was timed."""
        return round(self.seconds / self.steps * steps, 3) if self.steps else None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Forget what a broken-off run wrote and did after its last checkpoint; what it timed until then counts."""
        del control, kwargs
        self.first, self.whole = time.perf_counter(), not state.global_step
        self.first, self.start = time.perf_counter(), state.global_step
        kept = state.stateful_callbacks.setdefault(type(self).__name__, self.state())["attributes"]
        self.steps, self.seconds = kept["steps"], kept["seconds"]
        if not args.should_save:
            return
        told = [line for line in lines(self.file) if line["step"] <= state.global_step] if state.global_step else []
        self.file.write_text("".join(json.dumps(line) + "\n" for line in told), encoding="utf-8")
        if self.shows:
            from tqdm import tqdm

            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training", file=sys.stderr)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """How much memory training took, where this process did all of it."""
        del args, state, control, kwargs
        self.peak = peak_memory() if self.whole else None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step's time is that of its forwards, backwards and update."""
        del args, state, control, kwargs
        self.began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count it."""
        del args, control, kwargs
        self.steps += 1
        self.seconds += time.perf_counter() - self.began
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Write it down, and show the loss and the metric."""
        del control, kwargs
        found = {key: value for key, value in (logs or {}).items() if not key.startswith(("train_", "total_"))}
        if not args.should_save or not found.keys() - {"epoch"}:
            return
        line = {"step": state.global_step, **found, "seconds": round(time.perf_counter() - self.first, 2)}
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for key, name in (("loss", "loss"), (f"eval_{self.metric}", self.metric)):
            if key in found:
                self.shown[name] = f"{found[key]:.4g}"
        if self.bar is not None:
            self.bar.set_postfix(self.shown)
        elif self.say is not None and self._due(args, found):
            self.say(self._line(state))

    def _due(self, args: Any, found: dict[str, float]) -> bool:
        """After each evaluation; where there are none, now and then."""
        now = time.perf_counter()
        if f"eval_{self.metric}" not in found and (args.eval_strategy != "no" or now - self.said < EVERY):
            return False
        self.said = now
        return True

    def tick(self, done: int, of: int) -> None:
        """How far a measurement is."""
        if not self.shows:
            return
        if self.measuring is None:
            from tqdm import tqdm

            self.measuring = tqdm(total=of, desc="measuring", leave=False, file=sys.stderr)
        self.measuring.update(done - self.measuring.n)
        if done == of:
            self.measuring.close()
            self.measuring = None

    def _line(self, state: Any) -> str:
        took = time.perf_counter() - self.first
        left = took / max(1, state.global_step - self.start) * (state.max_steps - state.global_step)
        shown = ", ".join(f"{name} {value}" for name, value in self.shown.items())
        epochs = f"epoch {state.epoch:.3g} of {state.num_train_epochs}"
        return f"{epochs}, step {state.global_step} of {state.max_steps}: {shown}; {_minutes(left)} left"

    def close(self) -> None:
        """No more steps."""
        for bar in (self.bar, self.measuring):
            if bar is not None:
                bar.close()
        self.bar = self.measuring = None


def lines(file: Path) -> list[dict[str, Any]]:
    """What was written so far; a last line that a kill cut off is left out."""
    found = []
    for text in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            found.append(json.loads(text))
        except ValueError:
            break
    return found


def _minutes(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"
