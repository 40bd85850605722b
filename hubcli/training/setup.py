"""From a recipe to something that can train: base, what trains on it, and its task."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import numpy as np
import torch
from torch import nn

from hubcli import quantised
from hubcli import recipe as recipes
from hubcli.adapted import Adapted, adapt
from hubcli.bases import Identity, load_base, own_base
from hubcli.composition import Expr, Fuse
from hubcli.errors import UnsupportedError
from hubcli.families import Structure
from hubcli.manifest import BaseModel, Installed
from hubcli.predict import reads, room
from hubcli.pretrained import drawn, pretrained
from hubcli.recipe import Recipe
from hubcli.training.evaluating import image_processor
from hubcli.training.tasks import TASKS, Task, Tools

Locate = Callable[[str], Installed]


@dataclass(slots=True)
class Setup:
    """What trains: `handle` and the adapter's `name`, both None where every weight of the base does."""

    recipe: Recipe
    model: Any
    task: Task
    tokenizer: Any
    identity: Identity
    handle: Adapted | None = None
    name: str | None = None

    def expression(self, name: str | None = None) -> Expr:
        """What forward runs under: the adapter, or a Fuse by it; `name` puts another one in its place."""
        chosen = name or self.name
        if self.recipe.method.name == recipes.FUSION:
            return Fuse(*self.recipe.method.config["of"], by=chosen)
        return chosen

    def speaks(self) -> Any:
        """What answers: the handle, so that heads beside the model's own modules are asked, else the model."""
        return self.handle or self.model

    def room(self) -> int | None:
        """How many tokens of a row the base has places for, under what trains; None where nothing limits them."""
        return reads(Structure(self.model), self.tokenizer) if self.handle is None else room(self.handle)

    def parameters(self) -> list[nn.Parameter]:
        """What trains."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def heads(self) -> set[int]:
        """The ids of those parameters that belong to the task head."""
        if self.handle is None or self.name is None:
            own = (self.model.get_submodule(path) for path in Structure(self.model).head_modules())
            return {id(parameter) for module in own for parameter in module.parameters()}
        adapter = self.handle.engine.adapters[self.name]
        return {id(parameter) for twin in adapter.heads.values() for parameter in twin.parameters()}

    def head_modules(self) -> list[str]:
        """The modules of the base that are trained whole with an adapter."""
        if self.handle is None or self.name is None:
            return []
        return list(self.handle.engine.adapters[self.name].heads)

    def base(self) -> BaseModel:
        """What this trains on."""
        found = own_base(Structure(self.model) if self.handle is None else self.handle.structure, self.identity)
        return found or BaseModel(self.recipe.base.id)

    def counts(self) -> dict[str, int]:
        """How many numbers train, in the head alone, and in the base (as many as it has in full precision)."""
        heads = self.heads()
        return {
            "trainable": sum(p.numel() for p in self.parameters()),
            "head": sum(p.numel() for p in self.parameters() if id(p) in heads),
            "base": sum(_numbers(p) for p in self._base()),
        }

    def _base(self) -> Iterator[nn.Parameter]:
        own = set() if self.handle is None else {id(p) for p in _rooms(self.handle)}
        return (parameter for parameter in self.model.parameters() if id(parameter) not in own)


def prepared(recipe: Recipe, labels: tuple[str, ...], *, locate: Locate | None, **access: Any) -> Setup:
    """Load the base and put on it what trains. Everything drawn by chance follows from the recipe's seed.

    Args:
        labels: of the head, in order of their ids. locate: finds the adapters that a fusion is over.
        access: `offline` and `token` for the base.

    Raises:
        HubcliError: as `load_base`, `Adapted.add` and `Adapted.load`.
    """
    seeded(recipe.seed)
    model, tokenizer, processor, identity = _base(recipe, labels, **access)
    compares = recipe.train.metric == "exact_match" or (recipe.task == "SEQ_2_SEQ_LM" and recipe.train.metric is None)
    tools = Tools(
        config=model.config,
        tokenizer=tokenizer,
        processor=processor,
        labels=labels,
        max_length=recipe.train.max_length,
        max_answer=recipe.train.max_answer,
        compares=compares,
    )
    setup = Setup(recipe, model, TASKS[recipe.task](tools), tokenizer, identity)
    if recipe.method.name == recipes.FULL:
        for parameter in model.parameters():
            parameter.requires_grad_(True)
    else:
        _attach(setup, labels, locate)
    setup.task.narrow(setup.room())
    return setup


def seeded(seed: int) -> None:
    """Set every source of chance."""
    random.seed(seed)
    np.random.seed(seed % (1 << 32))
    torch.manual_seed(seed)


def _base(recipe: Recipe, labels: tuple[str, ...], *, offline: bool | str, token: str | None) -> Any:
    spec, task = recipe.base, TASKS[recipe.task]
    folder = recipe.place(spec.id)
    wanted = BaseModel(str(folder) if folder.is_dir() else spec.id, spec.revision, None, spec.weights_sha256)
    model, tokenizer, identity = load_base(
        wanted,
        task.pipeline,
        labels,
        dtype=spec.dtype,
        device=spec.device,
        quantize=quantised.wanted(recipe),
        keep=recipe.method.head if isinstance(recipe.method.head, tuple) else (),
        offline=offline,
        token=token,
    )
    if spec.tokenizer is not None:
        tokenizer = pretrained("AutoTokenizer", str(recipe.place(spec.tokenizer)), {"local_files_only": True})
    processor = image_processor(wanted, offline=offline, token=token) if recipe.task == "IMG_CLS" else None
    return model, tokenizer, processor, identity


def _attach(setup: Setup, labels: tuple[str, ...], locate: Locate | None) -> None:
    spec = setup.recipe.method
    handle = adapt(setup.model, locate=locate, tokenizer=setup.tokenizer, labels=labels or None, base=setup.identity)
    for name, ref in spec.adapters.items():
        folder = setup.recipe.place(ref)
        handle.load(folder if folder.is_dir() else ref, name)
    head: Any = None if spec.head == "none" else spec.head
    name = free_name(handle, "adapter", "trained")
    handle.add(spec.name, name, spec.config, head)
    setup.handle, setup.name = handle, name
    handle.activate(setup.expression())
    if not handle.trainable(name):
        raise UnsupportedError(f"method {spec.name}: nothing of it trains on this base")
    _check_drawn(setup, handle)


def free_name(handle: Adapted, *wanted: str) -> str:
    """The first of the names that no adapter has, else the last one with a number: a fusion's adapters have any names."""
    numbered = (f"{wanted[-1]}-{number}" for number in count(2))
    return next(name for name in chain(wanted, numbered) if name not in handle.adapters)


def _check_drawn(setup: Setup, handle: Adapted) -> None:
    """Refuse an adapter on numbers that nobody else will have: not the base's, and not saved with the adapter.

    Raises:
        UnsupportedError: names their modules.
    """
    kept = {path for adapter in handle.engine.adapters.values() for path in adapter.heads}
    drawn_by_chance = {key.rpartition(".")[0] for key in drawn(setup.model)}
    lost = sorted(path for path in drawn_by_chance if not any(f"{path}.".startswith(f"{own}.") for own in kept))
    if lost:
        named = ", ".join(f'"{path}"' for path in sorted({*handle.engine.adapters[setup.name or ""].heads, *lost}))
        raise UnsupportedError(
            f"the checkpoint of {setup.recipe.base.id} has no weights for {', '.join(lost)}: drawn by chance, they would not "
            "be saved with the adapter",
            hint=f"method.head = [{named}] trains and saves them with it",
        )


def _rooms(handle: Adapted) -> Iterator[nn.Parameter]:
    for adapter in handle.engine.adapters.values():
        yield from adapter.room.parameters()


def _numbers(parameter: nn.Parameter) -> int:
    """A 4-bit weight holds two numbers a byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(np.prod(state.shape))
