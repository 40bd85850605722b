"""Tasks whose answers are labels: of texts, of words, of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hubcli.errors import UnsupportedError
from hubcli.training import metrics
from hubcli.training.examples import Example
from hubcli.training.metrics import Figure
from hubcli.training.tasks.base import IGNORED, Feature, Task, inputs_of, logits_of, nats, padded, tokens_of
from hubcli.training.tasks.pictures import picture

Answer = tuple[int, float]  # the label's id, and the loss in nats
OUTSIDE = "O"  # the tag of a word that belongs to no span


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

    def make(self, rows: Sequence[Example]) -> list[list[Feature]]:
        """Tokens, cut to `max_length`, and the label."""
        inputs = [key for key in ("text", "text_pair") if key in rows[0].fields]
        tokens, cut = tokens_of(self.tools, {key: [row.fields[key] for row in rows] for key in inputs})
        kept = [key for key in ("input_ids", "token_type_ids") if key in tokens]
        return [
            [{**{key: tokens[key][i] for key in kept}, "labels": int(row.fields["label"]), **cut[i]}]
            for i, row in enumerate(rows)
        ]

    def collate(self, features: Sequence[Feature]) -> dict[str, Tensor]:
        """ids, mask: (rows, longest); labels: (rows,)."""
        labels = torch.tensor([feature["labels"] for feature in features])
        return {**inputs_of(features, self.tools), "labels": labels}


class TokenClassification(Task):
    """A label a word; a word's first token answers for it. A word without one, as those that were cut off, counts as `O`, or as
    the first label where there is no `O`.
    """

    name = "TOKEN_CLS"
    pipeline = "token-classification"

    @property
    def first(self) -> str:
        """F1 over spans, where the tags spell some, else accuracy over words."""
        return "f1" if metrics.spell_spans(self.tools.labels) else "accuracy"

    def make(self, rows: Sequence[Example]) -> list[list[Feature]]:
        """Tokens of the words, labels at their first tokens; `answered`: whose these are, among `words` words."""
        texts = {"text": [row.fields["tokens"] for row in rows]}
        tokens, cut = tokens_of(self.tools, texts, is_split_into_words=True)
        found = []
        for i, row in enumerate(rows):
            words = tokens.word_ids(i)
            first = [word is not None and word not in words[max(0, at - 1) : at] for at, word in enumerate(words)]
            feature = {
                "input_ids": tokens["input_ids"][i],
                "labels": [row.fields["tags"][w] if new else IGNORED for w, new in zip(words, first, strict=True)],
                "answered": [word for word, new in zip(words, first, strict=True) if new],
                "words": len(row.fields["tokens"]),
            }
            found.append([{**feature, **cut[i]}])
        return found

    def collate(self, features: Sequence[Feature]) -> dict[str, Tensor]:
        """ids, mask, labels: (rows, longest)."""
        labels = padded([feature["labels"] for feature in features], IGNORED)
        return {**inputs_of(features, self.tools), "labels": labels}

    def read(self, model: Any, batch: dict[str, Tensor], features: Sequence[Feature]) -> list[Any]:
        """(a label's id for each word, the mean loss)."""
        logits = logits_of(model, batch)
        losses, best = nats(logits, batch["labels"]), logits.argmax(-1)
        nothing = self.tools.labels.index(OUTSIDE) if OUTSIDE in self.tools.labels else 0
        found = []
        for row, feature in enumerate(features):
            counted = batch["labels"][row].ne(IGNORED)
            said = [nothing] * feature["words"]
            for word, label in zip(feature["answered"], best[row][counted].tolist(), strict=True):
                said[word] = label
            found.append((said, float(losses[row][counted].mean()) if feature["answered"] else 0.0))
        return found

    def figures(self, examples: Sequence[Example], answers: Sequence[Any], seed: int = 0) -> list[Figure]:
        """F1, precision and recall over spans and accuracy over words, or accuracy and macro F1 over words; and the mean loss."""
        labels, loss = self.tools.labels, mean_loss([answer[1] for answer in answers])
        if not metrics.spell_spans(labels):
            tags = [row.fields["tags"] for row in examples]
            return [*metrics.tagged_words(tags, [answer[0] for answer in answers], len(labels), seed), loss]
        right = [[labels[tag] for tag in row.fields["tags"]] for row in examples]
        said = [[labels[tag] for tag in answer[0]] for answer in answers]
        return [*metrics.tagged(right, said, seed), loss]


class ImageClassification(_OneLabel):
    """A label an image: a file, its bytes (alone, or as `{"bytes": …, "path": …}`), or numbers (height, width[, channels])."""

    name = "IMG_CLS"
    pipeline = "image-classification"

    def check(self) -> None:
        """Refuse a base without an image processor."""
        if self.tools.processor is None:
            raise UnsupportedError(f"{self.name}: the base has no image processor", hint="preprocessor_config.json")

    def make(self, rows: Sequence[Example]) -> list[list[Feature]]:
        """The row itself, once it is sure that its image can be decoded, and the label: pixels would fill the memory."""
        found: list[list[Feature]] = []
        for row in rows:
            picture(row)
            found.append([{"row": row, "labels": int(row.fields["label"])}])
        return found

    def collate(self, features: Sequence[Feature]) -> dict[str, Tensor]:
        """pixel_values, as the base's processor makes them: (rows, channels, height, width); labels: (rows,)."""
        pictures = [picture(feature["row"]) for feature in features]
        return {
            "pixel_values": self.tools.processor(pictures, return_tensors="pt")["pixel_values"],
            "labels": torch.tensor([feature["labels"] for feature in features]),
        }


def mean_loss(losses: Sequence[float]) -> Figure:
    """The mean of the rows' losses in nats."""
    return Figure("loss", sum(losses) / max(1, len(losses)), len(losses), None)
