"""Two peft adapters on a tiny model, with what is needed to check them independently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hubcli.adapted import Adapted, adapt

from .models import FAMILIES, inputs_of, logits, model_of, peft_adapter


@dataclass
class Lab:
    """A base with adapters a, b, c loaded, and the weights that each would fold into the base."""

    family: str
    base: nn.Module
    handle: Adapted
    inputs: dict[str, Tensor]
    deltas: dict[str, dict[str, Tensor]]
    folders: dict[str, Path]

    def folded(self, **weights: float) -> Tensor:
        """Logits with each named adapter's weight change, times a number, added to the base's weights."""
        changed = dict(self.base.named_parameters())
        for name, weight in weights.items():
            for path, delta in self.deltas[name].items():
                changed[f"{path}.weight"] = changed[f"{path}.weight"] + weight * delta
        with torch.no_grad():
            return torch.func.functional_call(self.base, changed, (), self.inputs).logits  # type: ignore[no-any-return]

    def under(self, expr: Any = None, rows: Any = None) -> Tensor:
        with self.handle.using(expr, rows):
            return logits(self.base, self.inputs)


@pytest.fixture
def lab(tmp_path: Path) -> Callable[..., Lab]:
    def build(family: str = "bert", head: bool = False, **options: Any) -> Lab:
        base = model_of(family)
        _, _, task, targets = FAMILIES[family]
        deltas, folders, handle = {}, {}, adapt(base)
        for seed, name in enumerate("abc"):
            settings = {"r": 2 + seed, "lora_alpha": 3, "target_modules": targets, **options}
            tuned = peft_adapter(base, tmp_path / name, task if head else "", seed + 1, **settings)
            deltas[name] = {
                path.removeprefix("base_model.model."): module.get_delta_weight("default").detach()
                for path, module in tuned.named_modules()
                if hasattr(module, "get_delta_weight")
            }
            folders[name] = tmp_path / name
        for name, folder in folders.items():
            handle.load(folder, name)
        return Lab(family, base, handle, inputs_of(family), deltas, folders)

    return build
