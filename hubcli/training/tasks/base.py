"""What every task has: rows become features, features a batch, a model's outputs answers, answers figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from hubcli.errors import UnsupportedError, UsageError
from hubcli.training.examples import Example
from hubcli.training.metrics import Figure

Feature = dict[str, Any]
Tick = Callable[[int, int], None]
IGNORED = -100  # a label that no loss counts
LOGITS = 1 << 26  # numbers that one batch of logits may have: 256 MiB in float32


@dataclass(frozen=True, slots=True)
class Tools:
    """What turns rows into tensors: `config` is the model's, `labels` in order of their ids, lengths in tokens.

    `room` is how many tokens the model has places for, None where nothing limits them; `max_length` is no more than that.
    """

    config: Any
    tokenizer: Any = None
    processor: Any = None
    labels: tuple[str, ...] = ()
    max_length: int = 128
    max_answer: int = 64
    room: int | None = None
    compares: bool = False  # whether answers are generated and compared, where a task may do without


class Task:
    """One task. Subclasses say what a row, an answer and a figure are."""

    #: As recipes name it.
    name: ClassVar[str]
    #: As transformers' pipelines name it.
    pipeline: ClassVar[str]
    #: Whether a word has as many logits as the model has words.
    of_words: ClassVar[bool] = False

    def __init__(self, tools: Tools):
        self.tools = tools
        self._kept: dict[int, tuple[Example, list[Feature]]] = {}  # by the id of a row that is held here as well
        self.check()

    def check(self) -> None:
        """Refuse tools that are not there.

        Raises:
            UnsupportedError: no tokenizer.
        """
        if self.tools.tokenizer is None:
            raise UnsupportedError(f"{self.name}: the base has no tokenizer", hint="base.tokenizer names a folder")

    def narrow(self, room: int | None) -> None:
        """Read no more tokens of a row than the model has places for, which is known once it carries what acts on it."""
        size = self.tools.max_length
        self.tools = replace(self.tools, room=room, max_length=size if room is None else min(size, room))

    @property
    def first(self) -> str:
        """The figure that says which of two adapters is better, where nobody names another."""
        return "accuracy"

    def make(self, rows: Sequence[Example]) -> list[list[Feature]]:
        """What the model trains on: one or more features of each row; `cut` is one of their keys where tokens were lost."""
        raise NotImplementedError

    def keep(self, examples: Iterable[Example]) -> list[str]:
        """Make the features of rows that will be asked for again and again; where the rows stand that lost tokens.

        Raises:
            UsageError: E_DATA, a row that can't be used.
        """
        rows = list(examples)
        for row, own in zip(rows, self.make(rows) if rows else [], strict=True):
            self._kept[id(row)] = row, own
        return [row.place for row in rows if any("cut" in feature for feature in self._kept[id(row)][1])]

    def fits(self, examples: Iterable[Example]) -> None:
        """Refuse rows that can be trained on, and not measured: there are none, of most tasks."""

    def pieces(self, examples: Iterable[Example]) -> list[list[Feature]]:
        """The features of each row, made now where they are not kept."""
        rows = list(examples)
        fresh = [row for row in rows if id(row) not in self._kept]
        made = dict(zip(map(id, fresh), self.make(fresh) if fresh else [], strict=True))
        return [made[id(row)] if id(row) in made else self._kept[id(row)][1] for row in rows]

    def features(self, examples: Iterable[Example]) -> list[Feature]:
        """The features of all rows, one after the other."""
        return [feature for own in self.pieces(examples) for feature in own]

    def collate(self, features: Sequence[Feature]) -> dict[str, Tensor]:
        """A batch: inputs padded to the longest, and `labels`."""
        raise NotImplementedError

    def counted(self, labels: Tensor) -> int:
        """How many of a batch's labels the model's loss is the mean of."""
        return int(labels.ne(IGNORED).sum())

    def answers(self, model: Any, examples: Sequence[Example], batch_size: int, tick: Tick | None = None) -> list[Any]:
        """What the model says to each row, in order; it is in eval mode and makes no gradients."""
        features = self.features(examples)
        found: list[Any] = [None] * len(features)
        done = 0
        for picked in self.batches(features, batch_size):
            batch = on_device(self.collate([features[i] for i in picked]), model)
            for i, answer in zip(picked, self.read(model, batch, [features[i] for i in picked]), strict=True):
                found[i] = answer
            done += len(picked)
            if tick is not None:
                tick(done, len(features))
        return found

    def read(self, model: Any, batch: dict[str, Tensor], features: Sequence[Feature]) -> list[Any]:
        """The answers of one batch."""
        raise NotImplementedError

    def figures(self, examples: Sequence[Example], answers: Sequence[Any], seed: int = 0) -> list[Figure]:
        """The figures of all rows together, the first one first."""
        raise NotImplementedError

    def batches(self, features: Sequence[Feature], size: int) -> Iterator[list[int]]:
        """Rows of like length together, the longest first: what does not fit into memory fails at once."""
        lengths = [length_of(feature) for feature in features]
        order = sorted(range(len(features)), key=lambda i: -lengths[i])
        while order:
            width = getattr(self.tools.config, "vocab_size", 1) if self.of_words else 1
            fits = max(1, LOGITS // max(1, lengths[order[0]] * width))
            yield order[: min(size, fits)]
            order = order[min(size, fits) :]


def tokens_of(tools: Tools, given: Mapping[str, Sequence[Any]], **how: Any) -> tuple[Any, list[Feature]]:
    """What the tokenizer makes of rows, cut to `max_length`; for each row {"cut": True} where tokens were lost, else {}.

    Args:
        given: the tokenizer's argument -> its value for each row. how: more for it.
    """
    size = tools.max_length
    found = tools.tokenizer(**given, truncation=True, max_length=size, verbose=False, **how)
    full = [i for i, ids in enumerate(found["input_ids"]) if len(ids) >= size]
    again = {key: [values[i] for i in full] for key, values in given.items()}
    whole = tools.tokenizer(**again, verbose=False, **how)["input_ids"] if full else []
    lost = {i for i, ids in zip(full, whole, strict=True) if len(ids) > size}
    return found, [{"cut": True} if i in lost else {} for i in range(len(found["input_ids"]))]


def length_of(feature: Feature) -> int:
    """How long a feature is; 1 where it has no tokens."""
    return len(feature.get("input_ids", (0,)))


def on_device(batch: dict[str, Tensor], model: Any) -> dict[str, Tensor]:
    """A batch where the model is; `model` is a module or a handle."""
    device = getattr(model, "model", model).device
    return {key: tensor.to(device) for key, tensor in batch.items()}


def logits_of(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """The model's logits in float32, labels left out.

    Raises:
        UnsupportedError: an expression that gives several answers a row.
    """
    output = model(**{key: tensor for key, tensor in batch.items() if key != "labels"})
    if isinstance(output, list | tuple) or isinstance(output.logits, list):
        raise UnsupportedError("a Parallel gives several answers a row: evaluate its children one by one")
    logits: Tensor = output.logits
    return logits.float()


def nats(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of each label in nats, 0 where it is ignored: the shape of `labels`."""
    flat = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none", ignore_index=IGNORED)
    return flat.view(labels.shape)


def padded(rows: Sequence[Sequence[int]], value: int, *, left: bool = False) -> Tensor:
    """(rows, longest), int64."""
    longest = max(len(row) for row in rows)
    made = torch.full((len(rows), longest), value, dtype=torch.long)
    for i, row in enumerate(rows):
        made[i, longest - len(row) if left else 0 : longest if left else len(row)] = torch.tensor(row, dtype=torch.long)
    return made


def pad_id(tools: Tools) -> int:
    """What stands where a row is shorter than its batch; the mask hides it."""
    tokenizer = tools.tokenizer
    for found in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if found is not None:
            return int(found)
    return 0


def inputs_of(features: Sequence[Feature], tools: Tools, *, left: bool = False) -> dict[str, Tensor]:
    """Ids, mask and token types, padded."""
    ids = [feature["input_ids"] for feature in features]
    batch = {
        "input_ids": padded(ids, pad_id(tools), left=left),
        "attention_mask": padded([[1] * len(row) for row in ids], 0, left=left),
    }
    if "token_type_ids" in features[0]:
        batch["token_type_ids"] = padded([feature["token_type_ids"] for feature in features], 0, left=left)
    return batch


def too_long(example: Example, found: int, allowed: int, hint: str = "train.max_length") -> UsageError:
    """What is said of a row that can't be cut."""
    return UsageError(
        f"{example.place}: expected at most {allowed} tokens before the answer, found {found}",
        id="E_DATA",
        hint=hint,
    )
