"""Words without a token, words that were cut off, and images made of numbers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import normalizers

from hubcli.errors import UsageError
from hubcli.training import early
from hubcli.training.examples import Example
from hubcli.training.tasks import TASKS, Tools
from hubcli.training.tasks.pictures import picture
from tests.support.trainable import tokenizer


class Perfect:
    """A model that says B-X of `paris`, O of everything else."""

    device = "cpu"

    def __init__(self, paris: int, labels: tuple[str, ...]) -> None:
        self.paris, self.labels = paris, labels

    def __call__(self, input_ids: torch.Tensor, **rest: Any) -> Any:
        said = torch.where(input_ids == self.paris, self.labels.index("B-X"), self.labels.index("O"))
        return SimpleNamespace(logits=10 * torch.nn.functional.one_hot(said, len(self.labels)).float())


EMPTY = "\ufe0f"  # the tokenizer makes nothing of it
WORDS: dict[str, tuple[list[str], int]] = {
    "no token": (["bob", EMPTY, EMPTY, "paris", "is", "good"], 40),
    "none at all": ([EMPTY, EMPTY], 40),
    "no token at the ends": ([EMPTY, "paris", "is", "paris", EMPTY], 40),
    "cut off": (["bob", "paris", "is", "good", "film"], 4),
    "several tokens": (["walking", EMPTY, "paris", "walked", "paris"], 40),
}


@pytest.mark.parametrize("labels", [("B-X", "O"), ("O", "B-X")])
@pytest.mark.parametrize("name", WORDS)
def test_each_word_has_its_own_answer(name: str, labels: tuple[str, ...]) -> None:
    words, length = WORDS[name]
    own = tokenizer(bounds=True)
    own.backend_tokenizer.normalizer = normalizers.Replace(EMPTY, "")
    task = TASKS["TOKEN_CLS"](Tools(config=None, tokenizer=own, labels=labels, max_length=length))
    right = [labels.index("B-X" if word == "paris" else "O") for word in words]
    rows = [
        Example({"tokens": words, "tags": right}, "rows:1"),
        Example({"tokens": ["bob"] * 9, "tags": [labels.index("O")] * 9}, "rows:2"),
    ]
    model = Perfect(own.convert_tokens_to_ids("paris"), labels)
    answers = task.answers(model, rows, 2)
    assert [answer[0] for answer in answers] == [row.fields["tags"] for row in rows]
    assert {figure.name: figure.value for figure in task.figures(rows, answers)}["accuracy"] == 1


@pytest.mark.parametrize(
    ("labels", "first"), [(("O", "B-X", "I-X"), "f1"), (("VB", "DT", "RB"), "accuracy"), (("O", "OFFICE"), "accuracy")]
)
def test_tags_have_the_figures_of_what_they_spell(labels: tuple[str, ...], first: str) -> None:
    task = TASKS["TOKEN_CLS"](Tools(config=None, tokenizer=tokenizer(bounds=True), labels=labels))
    rows = [Example({"tokens": ["bob", "is"], "tags": [0, 1]}, "rows:1")]
    found = {figure.name: figure.value for figure in task.figures(rows, [([0, 0], 0.5)])}
    assert tuple(found) == early.names("TOKEN_CLS", labels) and task.first == next(iter(found)) == first
    assert ("f1" in found) is (first == "f1") and found["accuracy"] == 0.5


CORNERS = [[0, 51], [102, 255]]
NUMBERS: dict[str, Any] = {
    "whole": CORNERS,
    "whole fractions": [[0.0, 51.0], [102.0, 255.0]],
    "fractions": [[0.0, 0.2], [0.4, 1.0]],
    "one channel": [[[0], [51]], [[102], [255]]],
    "one channel of fractions": [[[0.0], [0.2]], [[0.4], [1.0]]],
    "three": [[[n] * 3 for n in line] for line in CORNERS],
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_an_image(name: str) -> None:
    found = np.asarray(picture(Example({"image": NUMBERS[name]}, "rows:1")))
    assert found.shape == (2, 2, 3) and found[..., 0].tolist() == found[..., 2].tolist() == CORNERS


@pytest.mark.parametrize("pixels", [[[0, 256]], [[-1, 3]], [[0.5, 1.5]], [[-0.5, 0.5]], [[[1, 2, 3, 4, 5]]]])
def test_other_numbers_are_refused(pixels: Any) -> None:
    with pytest.raises(UsageError, match="rows:1: the image can't be read"):
        picture(Example({"image": pixels}, "rows:1"))
