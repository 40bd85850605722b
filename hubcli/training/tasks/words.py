"""Tasks whose answers are words: language modelling, instruction tuning, text to text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jinja2 import TemplateError
from torch import Tensor

from hubcli.errors import UnsupportedError, UsageError
from hubcli.training import metrics
from hubcli.training.examples import Example
from hubcli.training.metrics import Figure
from hubcli.training.tasks.base import (
    IGNORED,
    Feature,
    Task,
    Tick,
    inputs_of,
    logits_of,
    nats,
    on_device,
    pad_id,
    padded,
    tokens_of,
    too_long,
)


class _Words(Task):
    """Answers are (nats in all, tokens counted, the text generated or None)."""

    of_words = True

    @property
    def first(self) -> str:
        """Exact match where answers are compared, else perplexity."""
        return "exact_match" if self.tools.compares else "perplexity"

    def collate(self, features: Sequence[Feature]) -> dict[str, Tensor]:
        """ids, mask: (rows, longest); labels: (rows, longest of theirs)."""
        labels = padded([feature["labels"] for feature in features], IGNORED)
        return {**inputs_of(features, self.tools), "labels": labels}

    def expected(self, row: Example) -> str:
        """The text that is right."""
        raise NotImplementedError

    def figures(self, examples: Sequence[Example], answers: Sequence[Any], seed: int = 0) -> list[Figure]:
        """Exact match where texts were generated; perplexity and loss a token."""
        found = metrics.modelled([answer[0] for answer in answers], [answer[1] for answer in answers], seed)
        if not self.tools.compares:
            return found
        said = [answer[2] for answer in answers]
        return [*metrics.matched([self.expected(row) for row in examples], said), *found]


class CausalLM(_Words):
    """A model of texts; of answers alone where a row has a prompt or a conversation.

    A text longer than `max_length` becomes several features, one after the other: nothing is lost. A conversation is laid
    out by the tokenizer's chat template, and only what the assistant says counts.
    """

    name = "CAUSAL_LM"
    pipeline = "text-generation"

    def make(self, rows: Sequence[Example]) -> list[list[Feature]]:
        """ids and labels of one length; labels are ignored where nothing is to be learned."""
        return [list(self._features(row)) for row in rows]

    def fits(self, examples: Iterable[Example]) -> None:
        """Refuse prompts that leave no room for an answer.

        Raises:
            UsageError: E_DATA, with the row.
        """
        room = self.tools.room
        if room is None or not self.tools.compares:
            return
        for row in examples:
            found = len(self._prompt(row))
            if found + self.tools.max_answer > room:
                raise too_long(row, found, room - self.tools.max_answer, hint="train.max_answer")

    def _features(self, row: Example) -> Iterator[Feature]:
        if "text" not in row.fields:
            yield self._answered(row)
            return
        tokenizer, size = self.tools.tokenizer, self.tools.max_length
        ids = tokenizer(row.fields["text"], verbose=False)["input_ids"]
        if tokenizer.eos_token_id is not None and ids[-1:] != [tokenizer.eos_token_id]:
            ids = [*ids, tokenizer.eos_token_id]
        for start in range(0, max(1, len(ids) - 1), size - 1):  # a piece's last token is the next one's first
            piece = ids[start : start + size]
            yield {"input_ids": piece, "labels": piece}

    def _answered(self, row: Example) -> Feature:
        """ids and labels of a conversation, or of a prompt with its answer; what is too long is cut at the end.

        Raises:
            UsageError: nothing of the answer is left.
        """
        ids: list[int] = []
        labels: list[int] = []
        for learned, part in self._parts(row):
            ids += part
            labels += part if learned else [IGNORED] * len(part)
        size = self.tools.max_length
        if all(label == IGNORED for label in labels[1:size]):
            before = next(i for i, label in enumerate(labels) if label != IGNORED)
            raise too_long(row, before, size - 1)
        return {"input_ids": ids[:size], "labels": labels[:size], **({"cut": True} if len(ids) > size else {})}

    def _parts(self, row: Example) -> Iterator[tuple[bool, list[int]]]:
        """The pieces of a row in order: (whether it is learned, its ids)."""
        if "prompt" in row.fields:
            yield False, self._prompt(row)
            yield True, self._plain(row.fields["answer"]) + self._end()
            return
        turns = row.fields["messages"]
        before: list[int] = []
        for at, turn in enumerate(turns):
            if turn["role"] != "assistant":
                continue
            asked = self._chat(row, turns[:at], asks=True)
            whole = self._chat(row, turns[: at + 1], asks=False)
            if asked[: len(before)] != before or whole[: len(asked)] != asked:
                raise UnsupportedError(
                    f"{row.place}: the tokenizer's chat template does not go on where it left off, so that answers can't "
                    "be told from questions",
                    hint="use prompt and answer columns",
                )
            yield False, asked[len(before) :]
            yield True, whole[len(asked) :]
            before = whole

    def _chat(self, row: Example, turns: Sequence[Any], *, asks: bool) -> list[int]:
        if not self.tools.tokenizer.chat_template:
            raise UnsupportedError(
                f"{row.place}: the tokenizer has no chat template", hint="use prompt and answer columns"
            )
        try:
            found = self.tools.tokenizer.apply_chat_template(
                list(turns), add_generation_prompt=asks, tokenize=True, return_dict=True
            )
        except (TemplateError, ValueError, TypeError, LookupError) as error:
            roles = ", ".join(turn["role"] for turn in turns) or "no turn before the first answer"
            message = f"{row.place}: the tokenizer's chat template can't lay this conversation out ({roles})"
            raise UsageError(message, cause=str(error).partition("\n")[0], id="E_DATA") from error
        return list(found["input_ids"])

    def _prompt(self, row: Example) -> list[int]:
        """What stands before the answer that is asked for."""
        if "prompt" in row.fields:
            start = self.tools.tokenizer.bos_token_id
            ids = self._plain(row.fields["prompt"])
            return ids if start is None or ids[:1] == [start] else [start, *ids]
        return self._chat(row, row.fields["messages"][:-1], asks=True)

    def _plain(self, text: str) -> list[int]:
        return list(self.tools.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _end(self) -> list[int]:
        end = self.tools.tokenizer.eos_token_id
        return [] if end is None else [end]

    def counted(self, labels: Tensor) -> int:
        """Nothing comes before the first token, so nothing says it."""
        return super().counted(labels[:, 1:])

    def read(self, model: Any, batch: dict[str, Tensor], features: Sequence[Feature]) -> list[Any]:
        """(nats in all, tokens counted) of each feature."""
        labels = batch["labels"][:, 1:]
        losses = nats(logits_of(model, batch)[:, :-1], labels)
        counts = labels.ne(IGNORED).sum(-1)
        return [(float(loss), int(count)) for loss, count in zip(losses.sum(-1), counts, strict=True)]

    def answers(self, model: Any, examples: Sequence[Example], batch_size: int, tick: Tick | None = None) -> list[Any]:
        """(nats, tokens, the answer generated or None) of each row; its pieces are summed."""
        owners = [at for at, own in enumerate(self.pieces(examples)) for _ in own]
        sums = [[0.0, 0] for _ in examples]
        for owner, (loss, count) in zip(owners, super().answers(model, examples, batch_size, tick), strict=True):
            sums[owner][0] += loss
            sums[owner][1] += count
        said: Sequence[str | None] = [None] * len(examples)
        if self.tools.compares:
            said = self.generated(model, examples, batch_size)
        return [(loss, count, text) for (loss, count), text in zip(sums, said, strict=True)]

    def generated(self, model: Any, examples: Sequence[Example], batch_size: int) -> list[str]:
        """The likeliest answer to each row, greedily, at most `max_answer` tokens."""
        prompts = [{"input_ids": self._prompt(row)} for row in examples]
        found = [""] * len(prompts)
        for picked in self.batches(prompts, batch_size):
            batch = on_device(inputs_of([prompts[i] for i in picked], self.tools, left=True), model)
            made = model.generate(
                **batch, max_new_tokens=self.tools.max_answer, do_sample=False, pad_token_id=pad_id(self.tools)
            )
            texts = self.tools.tokenizer.batch_decode(made[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
            for i, text in zip(picked, texts, strict=True):
                found[i] = text
        return found

    def expected(self, row: Example) -> str:
        """The answer, or what the assistant says last."""
        return str(row.fields["answer"] if "answer" in row.fields else row.fields["messages"][-1]["content"])


class TextToText(_Words):
    """An encoder-decoder's text for a text."""

    name = "SEQ_2_SEQ_LM"
    pipeline = "text2text-generation"

    def make(self, rows: Sequence[Example]) -> list[list[Feature]]:
        """ids of the text and of the target, both cut to `max_length`."""
        texts, cut = tokens_of(self.tools, {"text": [row.fields["text"] for row in rows]})
        targets, short = tokens_of(self.tools, {"text_target": [row.fields["target"] for row in rows]})
        return [
            [{"input_ids": texts["input_ids"][i], "labels": targets["input_ids"][i], **cut[i], **short[i]}]
            for i in range(len(rows))
        ]

    def read(self, model: Any, batch: dict[str, Tensor], features: Sequence[Feature]) -> list[Any]:
        """(nats in all, tokens counted, the text generated or None) of each row."""
        output = model(**batch)
        losses = nats(output.logits.float(), batch["labels"]).sum(-1)
        counts = batch["labels"].ne(IGNORED).sum(-1)
        said: Sequence[str | None] = [None] * len(features)
        if self.tools.compares:
            asked = {key: batch[key] for key in ("input_ids", "attention_mask")}
            made = model.generate(**asked, max_new_tokens=self.tools.max_answer, do_sample=False)
            said = self.tools.tokenizer.batch_decode(made, skip_special_tokens=True)
        return [(float(a), int(b), text) for a, b, text in zip(losses, counts, said, strict=True)]

    def expected(self, row: Example) -> str:
        """The target."""
        return str(row.fields["target"])
