"""Checkpoints of transformers' Trainer: its own hold the base alone, so this callback keeps the adapters that train beside it.

    Trainer(model, arguments, train_dataset=rows, callbacks=[AdapterCheckpoints(adapted)])

Each `checkpoint-N` gets a folder `adapters` with one adapter each, in hubcli's own format, ready for `load`. Resuming and
`load_best_model_at_end` put their numbers back, to the bit.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from hubcli import formats
from hubcli.adapted import Adapted
from hubcli.errors import IntegrityError, NotFoundError, UnsupportedError
from hubcli.residents import ADDED_HEAD

FOLDER, FORMAT = "adapters", "hubcli"
STATE = "trainer_state.json"
ELSEWHERE = "resume_from= of AdapterCheckpoints names the checkpoint, where it is not in output_dir"


class AdapterCheckpoints(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Saves the adapters that train into each checkpoint's folder, and restores them.

    Args:
        adapted: the handle of the model that the Trainer trains.
        resume_from: the checkpoint that `train(resume_from_checkpoint=…)` is given, where it is not in `output_dir`: a
            Trainer doesn't tell its callbacks.
    """

    def __init__(self, adapted: Adapted, resume_from: str | Path | None = None):
        self.adapted = adapted
        self.resume_from = resume_from

    def state(self) -> dict[str, Any]:
        """What the Trainer writes into trainer_state.json: the sha256 of each adapter's numbers at that step."""
        return {"args": {}, "attributes": {name: digest(self.adapted, name) for name in self._training()}}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> AdapterCheckpoints:
        """Refused: a state has no model.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(
            f"{cls.__name__} can't be made from a trainer state: it needs the handle of the model",
            hint="leave restore_callback_states_from_checkpoint off; the adapters are restored without it",
        )

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the adapters beside the checkpoint that was just written."""
        del control, kwargs
        if state.is_hyper_param_search:
            raise UnsupportedError(
                "a hyperparameter search names its folders itself: its adapters can't be saved there"
            )
        if args.should_save:
            for name in self._training():
                folder = _checkpoint(args, state) / FOLDER / _file_name(name)
                self.adapted.save(name, folder, format=FORMAT)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the adapters of the checkpoint back that training resumes from.

        Raises:
            NotFoundError: there are none. IntegrityError: they are not those of the checkpoint.
        """
        del control, kwargs
        if state.global_step:
            given = self.resume_from or args.resume_from_checkpoint
            self.restore(_checkpoint(args, state) if given in (None, True, "True") else Path(given))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the adapters of the best checkpoint back, where the Trainer has just loaded its model."""
        del control, kwargs
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            self.restore(Path(state.best_model_checkpoint))

    def restore(self, checkpoint: Path) -> None:
        """Copy the numbers of a checkpoint's adapters into those that train.

        Raises:
            NotFoundError: it has no such adapters. IntegrityError: they are not those that were saved with it.
        """
        expected = _digests(checkpoint)
        for name in self._training():
            folder = checkpoint / FOLDER / _file_name(name)
            if name not in expected or not folder.is_dir():
                raise NotFoundError(
                    f"{checkpoint} holds no adapter '{name}' (expected {folder})",
                    hint=ELSEWHERE,
                )
            self._copy(name, folder)
            if digest(self.adapted, name) != expected[name]:
                raise IntegrityError(f"{folder}: not the numbers that '{name}' had when this checkpoint was written")

    def _training(self) -> list[str]:
        return [name for name, info in self.adapted.adapters.items() if info.trainable]

    @torch.no_grad()
    def _copy(self, name: str, folder: Path) -> None:
        saved, own = formats.read(folder), _numbers(self.adapted, name)
        for site, tensors in self.adapted.engine.adapters[name].sites.items():  # a fusion's file names ports too
            for at in (site.path, f"{site.path}:{site.port}"):
                own |= {f"{at}/{key}".replace(".", "/"): tensor for key, tensor in tensors.items()}
        added = {} if saved.added is None else {ADDED_HEAD: saved.added[1]}
        for path, group in (*saved.tensors.items(), *saved.heads.items(), *added.items()):
            for parameter, tensor in group.items():
                target = own.get(f"{path}.{parameter}".replace(".", "/"))
                if target is None or target.shape != tensor.shape:
                    found = None if target is None else tuple(target.shape)
                    raise IntegrityError(
                        f"'{name}': {path}.{parameter} has shape {tuple(tensor.shape)} in {folder}, {found} in the model"
                    )
                target.copy_(tensor)


def digest(adapted: Adapted, name: str) -> str:
    """The sha256 of an adapter's numbers, with their names, dtypes and shapes."""
    found = hashlib.sha256()
    for key, tensor in sorted(_numbers(adapted, name).items()):
        found.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _numbers(adapted: Adapted, name: str) -> dict[str, Tensor]:
    """The adapter's parameters, by their names in the model."""
    return dict(adapted.engine.adapters[name].room.named_parameters())


def _checkpoint(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def _digests(checkpoint: Path) -> dict[str, str]:
    """What the checkpoint's own state says of its adapters."""
    file = checkpoint / STATE
    if not file.is_file():
        raise NotFoundError(f"{checkpoint} is no checkpoint of a Trainer: {STATE} is missing", hint=ELSEWHERE)
    kept = json.loads(file.read_text(encoding="utf-8")).get("stateful_callbacks") or {}
    found: dict[str, str] = kept.get(AdapterCheckpoints.__name__, {}).get("attributes", {})
    return found


def _file_name(name: str) -> str:
    return quote(name, safe="").replace(".", "%2E")
