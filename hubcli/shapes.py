"""A base's structure from its config alone: names and shapes of its modules, no weight read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hubcli.bases import find_base
from hubcli.errors import BaseNotFoundError, OfflineError
from hubcli.families import TASKS, Structure
from hubcli.formats import Checkpoint
from hubcli.manifest import BaseModel
from hubcli.method import Method
from hubcli.pretrained import AUTO, pretrained

HINT = "say which base: --base FOLDER_OR_ID (of it only config.json is read)"


def needed_by(method: Method[Any], to: str) -> bool:
    """Whether only a model says where this method's tensors go: AdapterHub names modules by its own names, and a method may
    keep its tensors elsewhere than under their modules' paths.
    """
    elsewhere = type(method).filed is not Method.filed or type(method).spread is not Method.spread
    return elsewhere or to == "adapterhub"


@dataclass(slots=True)
class Shapes:
    """Finds the structure that a checkpoint was made for. `base` is a folder or a hub id, instead of what the files say."""

    base: str | None = None
    offline: bool | str = False
    token: str | None = None

    def of(self, checkpoint: Checkpoint, name: str) -> Structure:
        """The structure, as the class that the checkpoint's task asks for, else bare.

        Raises:
            BaseNotFoundError, OfflineError: nothing says which base, or it can't be had.
        """
        base = BaseModel(self.base) if self.base else checkpoint.base
        if base is None or not base.id:
            raise BaseNotFoundError(f"{name} does not say which base it was made for", hint=HINT)
        try:
            where = find_base(base, offline=self.offline, token=self.token)
        except (BaseNotFoundError, OfflineError) as error:
            raise type(error)(error.message, cause=error.cause, hint=HINT) from error
        options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": bool(self.offline)}
        if not Path(where).is_dir():
            options |= {"revision": base.revision, "token": self.token}
        config = pretrained("AutoConfig", where, options)
        return Structure(_empty(config, checkpoint.config.get("task_type")))


def _empty(config: Any, task: Any) -> Any:
    """The model without weights."""
    import transformers

    kinds = [AUTO[kind] for kind, word in dict.fromkeys(TASKS.values()) if word == task and kind in AUTO]
    for kind in [*kinds, "AutoModel"]:
        try:
            with torch.device("meta"):
                return getattr(transformers, kind).from_config(config)
        except ValueError:
            continue
    raise BaseNotFoundError(f"transformers knows no model of type {getattr(config, 'model_type', None)!r:.60}")


def start_of(paths: Iterable[str], structure: Structure) -> str:
    """The model's own prefix, where a file's module paths begin with it."""
    prefix = str(getattr(structure.model, "base_model_prefix", "") or "")
    return prefix if prefix and all(f"{path}.".startswith(f"{prefix}.") for path in paths) else ""
