"""What the tensor benchmarks run on: random weights of BERT-base's width, and random adapters in peft's own folders."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from hubcli.adapted import Adapted, adapt

WIDTH, RANK, TARGETS = 768, 8, ["query", "value"]
PACKAGES = ("hubcli", "torch", "transformers", "peft")


class Pair(nn.Module):
    """The two projections of an attention block that LoRA adapts, and nothing else."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.value = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, width) to (…, width)."""
        added: Tensor = self.query(hidden) + self.value(hidden)
        return added


class Projections(nn.Module):
    """Pairs one after the other: the smallest model with the sites of a BERT, so that what is added stands out."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Pair(width) for _ in range(layers))

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, width) to (…, width)."""
        for pair in self.layer:
            hidden = pair(hidden)
        return hidden


def projections(layers: int, width: int = WIDTH) -> nn.Module:
    """Random pairs, frozen."""
    torch.manual_seed(0)
    return Projections(layers, width).eval().requires_grad_(False)


def bert(layers: int, **changes: Any) -> nn.Module:
    """A random BERT of BERT-base's shape but for its number of layers, frozen."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(num_hidden_layers=layers, **changes)
    made: nn.Module = BertModel(config, add_pooling_layer=False).eval().requires_grad_(False)
    return made


def twin(model: nn.Module) -> nn.Module:
    """A copy that shares its parameters: the contestants read the same memory."""
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def lora(r: int = RANK, **changes: Any) -> LoraConfig:
    """LoRA on the queries and values."""
    return LoraConfig(**{"r": r, "lora_alpha": 2 * r, "target_modules": TARGETS, **changes})


def peft_model(model: nn.Module, configs: dict[str, Any]) -> PeftModel:
    """peft's model with these adapters, none of whose numbers is at its start, on a twin of the model."""
    made: PeftModel | None = None
    torch.manual_seed(1)
    for name, config in configs.items():
        if made is None:
            made = get_peft_model(twin(model), config, adapter_name=name)
        else:
            made.add_adapter(name, config)
    assert made is not None
    with torch.no_grad():
        for key, parameter in made.named_parameters():
            if "lora_" in key:
                parameter.normal_(std=0.02)
    return made.eval()


def saved(tuned: PeftModel, folder: Path) -> dict[str, Path]:
    """Its adapters' folders, by name."""
    tuned.save_pretrained(str(folder))
    return {name: folder if name == "default" else folder / name for name in tuned.peft_config}


def loaded(model: nn.Module, folders: dict[str, Path]) -> Adapted:
    """hubcli's handle on a twin of the model, with these adapters."""
    handle = adapt(twin(model))
    with quiet():
        for name, folder in folders.items():
            handle.load(folder, name)
    return handle


def both(model: nn.Module, configs: dict[str, Any], folder: Path) -> tuple[Adapted, PeftModel]:
    """The same adapters in hubcli and in peft."""
    tuned = peft_model(model, configs)
    return loaded(model, saved(tuned, folder)), tuned


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that a random base gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def forward(model: Any, *inputs: Tensor, **options: Any) -> Callable[[], Any]:
    """A call of the model without gradients."""

    def call() -> Any:
        with torch.no_grad():
            return model(*inputs, **options)

    return call


def hidden(shape: Sequence[int], width: int = WIDTH) -> Tensor:
    """Random hidden states (rows, tokens, width)."""
    torch.manual_seed(2)
    return torch.randn(*shape, width)


def tokens(rows: int, length: int) -> Tensor:
    """Random token ids."""
    torch.manual_seed(2)
    return torch.randint(5, 30000, (rows, length))
