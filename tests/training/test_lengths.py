"""No more tokens are read than the model has places for, under what is active: against what its embeddings take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hubcli import Average, adapt, api
from hubcli.composition import Expr, Stack
from hubcli.method import HubcliWarning
from hubcli.predict import room
from hubcli.recipe import made
from hubcli.testing.models import tiny
from hubcli.training.train import train
from tests.support.trainable import base, document, jsonl, reviews

Bases = Callable[[str], Path]
PLACES = 40
LONG = {"text": "film " * 60 + "good", "label": "pos"}


def moving(length: int, shift: bool = True) -> dict[str, Any]:
    return {"prefix_length": length, "flat": True, "position_shift": shift}


def runs(model: Any, length: int) -> bool:
    """Whether a text of so many tokens, none of them padding, has a place each."""
    try:
        with torch.no_grad():
            model(input_ids=torch.full((1, length), 5), attention_mask=torch.ones(1, length, dtype=torch.long))
    except (IndexError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
@pytest.mark.parametrize(
    ("expr", "less"),
    [(None, 0), ("three", 3), ("still", 0), (Stack("three", "five"), 8), (Average("three", "other"), 3)],
)
def test_as_many_as_there_are_places(family: str, expr: Expr, less: int) -> None:
    handle = adapt(tiny(family, torch.float32))
    for name, config in {"three": moving(3), "other": moving(3), "five": moving(5), "still": moving(4, False)}.items():
        handle.add("prefix", name, config, head=None)
    handle.activate(expr)
    most = room(handle)
    assert most == 32 - less - (family == "roberta")  # whose first place is the padding's
    assert runs(handle.model, most) and not runs(handle.model, most + 1)


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that takes 6 of its base's 40 places, trained with a row of more than that."""
    folder = tmp_path_factory.mktemp("moved")
    rows = jsonl(folder / "long.jsonl", [*reviews(15), LONG])
    spec = document(base(folder / "base"), rows, train={"max_length": 512, "epochs": 1})
    with pytest.warns(HubcliWarning, match=f"of more than {PLACES - 6} tokens, what this base reads, lose"):
        report = train(made({**spec, "method": {"name": "prefix", "config": moving(6)}}, folder), folder / "run")
    assert sum(report["cut"].values()) == 1
    return folder


def test_a_long_text_is_answered(moved: Path) -> None:
    handle = api.load_adapter(str(moved / "run" / "adapter"))
    with pytest.warns(HubcliWarning, match=f"cut to {PLACES - 6} tokens"):
        (answer,) = handle.predict([LONG["text"]])
    cut = " ".join(LONG["text"].split()[: PLACES - 6 - 2])
    (same,) = handle.predict([cut])
    assert answer.score == pytest.approx(same.score, abs=1e-6)


@pytest.mark.parametrize("asked", [None, 12, 600])
def test_a_long_row_is_measured_and_told_of(asked: int | None, moved: Path) -> None:
    said: list[str] = []
    found = api.eval(moved / "run" / "adapter", moved / "long.jsonl", max_length=asked, write=False, warn=said.append)
    size = min(asked or PLACES, PLACES - 6)
    assert found["settings"]["max_length"] == size
    what = "max_length" if asked == 12 else "what this base reads"
    assert [told for told in said if told.startswith(f"test: 1 row of more than {size} tokens, {what}, lose")], said
