"""Tasks whose answers are labels: of texts, of words, of images."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hubcli.errors import UnsupportedError, UsageError
from hubcli.training import metrics
from hubcli.training.examples import Example
from hubcli.training.metrics import Figure
from hubcli.training.tasks.base import IGNORED, Feature, Task, inputs_of, logits_of, nats, padded

Answer = tuple[int, float]  # the label's id, and the loss in nats


class _OneLabel(Task):
    """One label a row."""

    def read(self, model: Any, batch: dict[str, Tensor], features: Sequence[Feature]) -> list[Answer]:
        """The likeliest label, and what the right one costs."""
        logits = logits_of(model, batch)
        losses = nats(logits, batch["labels"])
        return [(int(best), float(loss)) for best, loss in zip(logits.argmax(-1), losses, strict=True)]

    def figures(self, examples: Sequence[Example], answers: Sequence[Answer], seed: int = 0) -> list[Figure]:
        """Accuracy, F1, MCC, and the mean loss."""
        right = [int(example.fields["label"]) for example in examples]
        found = metrics.classified(right, [answer[0] for answer in answers], self.tools.labels, seed)
        return [*found, mean_loss([answer[1] for answer in answers])]


class SequenceClassification(_OneLabel):
    """A label a text, or a pair of texts."""

    name = "SEQ_CLS"
    pipeline = "text-classification"

    def features(self, examples: Iterable[Example]) -> list[Feature]:
        """Tokens, cut to `max_length`, and the label."""
        rows = list(examples)
        pairs = [row.fields["text_pair"] for row in rows] if rows and "text_pair" in rows[0].fields else None
        tokens = self.tools.tokenizer(
            [row.fields["text"] for row in rows], pairs, truncation=True, max_length=self.tools.max_length
        )
        kept = [key for key in ("input_ids", "token_type_ids") if key in tokens]
        return [
            {**{key: tokens[key][i] for key in kept}, "labels": int(row.fields["label"])} for i, row in enumerate(rows)
        ]

    def collate(self, features: Sequence[Feature]) -> dict[str, Tensor]:
        """ids, mask: (rows, longest); labels: (rows,)."""
        labels = torch.tensor([feature["labels"] for feature in features])
        return {**inputs_of(features, self.tools), "labels": labels}


class TokenClassification(Task):
    """A label a word; a word's first token answers for it. Words that were cut off count as the first label."""

    name = "TOKEN_CLS"
    pipeline = "token-classification"

    @property
    def first(self) -> str:
        """F1 over spans."""
        return "f1"

    def features(self, examples: Iterable[Example]) -> list[Feature]:
        """Tokens of the words, labels at their first tokens; `words` is how many words were cut off or not."""
        found = []
        for row in examples:
            tokens = self.tools.tokenizer(
                row.fields["tokens"], is_split_into_words=True, truncation=True, max_length=self.tools.max_length
            )
            words, labels, before = tokens.word_ids(), [], None
            for word in words:
                labels.append(IGNORED if word is None or word == before else row.fields["tags"][word])
                before = word
            found.append({"input_ids": tokens["input_ids"], "labels": labels, "words": len(row.fields["tokens"])})
        return found

    def collate(self, features: Sequence[Feature]) -> dict[str, Tensor]:
        """ids, mask, labels: (rows, longest)."""
        labels = padded([feature["labels"] for feature in features], IGNORED)
        return {**inputs_of(features, self.tools), "labels": labels}

    def read(self, model: Any, batch: dict[str, Tensor], features: Sequence[Feature]) -> list[Any]:
        """(a label's id for each word, the mean loss)."""
        logits = logits_of(model, batch)
        losses, best = nats(logits, batch["labels"]), logits.argmax(-1)
        found = []
        for row, feature in enumerate(features):
            counted = batch["labels"][row].ne(IGNORED)
            said = best[row][counted].tolist()
            mean = float(losses[row][counted].mean()) if said else 0.0
            found.append((said + [0] * (feature["words"] - len(said)), mean))
        return found

    def figures(self, examples: Sequence[Example], answers: Sequence[Any], seed: int = 0) -> list[Figure]:
        """F1, precision and recall over spans, accuracy over words, and the mean loss."""
        labels = self.tools.labels
        right = [[labels[tag] for tag in row.fields["tags"]] for row in examples]
        said = [[labels[tag] for tag in answer[0]] for answer in answers]
        return [*metrics.tagged(right, said, seed), mean_loss([answer[1] for answer in answers])]


class ImageClassification(_OneLabel):
    """A label an image: a file, its bytes (alone, or as `{"bytes": …, "path": …}`), or numbers (height, width[, channels])."""

    name = "IMG_CLS"
    pipeline = "image-classification"

    def check(self) -> None:
        """Refuse a base without an image processor."""
        if self.tools.processor is None:
            raise UnsupportedError(f"{self.name}: the base has no image processor", hint="preprocessor_config.json")

    def features(self, examples: Iterable[Example]) -> list[Feature]:
        """Pixels as the base's processor makes them, and the label."""
        found = []
        for row in examples:
            pixels = self.tools.processor(_picture(row), return_tensors="pt")["pixel_values"][0]
            found.append({"pixel_values": pixels, "labels": int(row.fields["label"])})
        return found

    def collate(self, features: Sequence[Feature]) -> dict[str, Tensor]:
        """pixel_values: (rows, channels, height, width); labels: (rows,)."""
        return {
            "pixel_values": torch.stack([feature["pixel_values"] for feature in features]),
            "labels": torch.tensor([feature["labels"] for feature in features]),
        }


def mean_loss(losses: Sequence[float]) -> Figure:
    """The mean of the rows' losses in nats."""
    return Figure("loss", sum(losses) / max(1, len(losses)), len(losses), None)


def _picture(row: Example) -> Any:
    """An RGB image.

    Raises:
        UsageError: it can't be read, with the row.
    """
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    given = row.fields["image"]
    if isinstance(given, dict):  # as data sets have it: the bytes, or where they are
        given = given.get("path") if given.get("bytes") is None else given["bytes"]
    try:
        if isinstance(given, list):
            return Image.fromarray(np.asarray(given).clip(0, 255).astype("uint8")).convert("RGB")
        if isinstance(given, bytes):
            return Image.open(io.BytesIO(given)).convert("RGB")
        return given.convert("RGB") if isinstance(given, Image.Image) else Image.open(Path(given)).convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError, TypeError, Image.DecompressionBombError) as error:
        raise UsageError(f"{row.place}: the image can't be read", cause=str(error), id="E_DATA") from error
