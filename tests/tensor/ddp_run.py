"""A few steps of training by accelerate, alone or as one of several processes; writes the adapter's numbers by rank.

python -m tests.tensor.ddp_run FOLDER METHOD...
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from safetensors.torch import save_file

from hubcli.adapted import adapt

from .methods import METHODS
from .models import model_of


def train(method: str, accelerator: Accelerator) -> dict[str, torch.Tensor]:
    """Four steps; each process starts from numbers of its own, the first one's count."""
    base: Any = model_of("bert", torch.float32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    handle = adapt(base)
    torch.manual_seed(accelerator.process_index)
    handle.add(method, "new", METHODS[method].config)
    handle.activate("new")
    parameters = handle.trainable("new")
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn_like(parameter) * 0.1)
    made = torch.Generator().manual_seed(3)
    rows = [(torch.randint(3, 60, (6,), generator=made), torch.tensor(i % 2)) for i in range(16)]
    model, optimizer, loader = accelerator.prepare(
        base.train(), torch.optim.SGD(parameters, lr=0.05), torch.utils.data.DataLoader(rows, batch_size=4)
    )
    for ids, labels in loader:
        accelerator.backward(model(input_ids=ids, labels=labels).loss)
        optimizer.step()
        optimizer.zero_grad()
    return {key: p.detach().clone() for key, p in handle.engine.adapters["new"].room.named_parameters()}


def main(folder: str, *methods: str) -> None:
    """Train each method and write `METHOD-RANK-of-SIZE.safetensors`."""
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(split_batches=True))
    for method in methods:
        found = train(method, accelerator)
        rank = f"{accelerator.process_index}-of-{accelerator.num_processes}"
        save_file(found, Path(folder) / f"{method}-{rank}.safetensors")
    accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
