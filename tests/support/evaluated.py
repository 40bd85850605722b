"""Tiny bases, adapters for three labels and for words, and data to measure them on."""

from __future__ import annotations

import csv
import random
import shutil
import warnings
from pathlib import Path
from typing import Any

from tests.api.hub_repos import WORDS, adapter_folder, base_folder

LABELS = ["no", "yes", "maybe"]
ROWS = 40


def texts(n: int, seed: int = 3) -> list[str]:
    dice = random.Random(seed)
    return [" ".join(dice.choice(WORDS) for _ in range(dice.randrange(2, 12))) + f" {i}" for i in range(n)]


def table(file: Path, header: list[str], rows: list[tuple[Any, ...]]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return file


def prepared(root: Path) -> Path:
    """Bases (base, llama), adapters for three labels (a, b) and for words (words), and test.csv."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base, words = base_folder(root / "base"), base_folder(root / "llama", "llama")
        for seed, name in enumerate("ab", 1):
            adapter_folder(root / name, base, str(base), classes=3, labels=LABELS, seed=seed)
        adapter_folder(root / "words", words, str(words), family="llama", task="CAUSAL_LM")
    dice = random.Random(1)
    table(root / "test.csv", ["text", "label"], [(text, dice.choice(LABELS)) for text in texts(ROWS)])
    return root


def copied(made: Path, folder: Path) -> None:
    """Adapters and data, in a folder of their own."""
    for name in ("a", "b", "words"):
        shutil.copytree(made / name, folder / name)
    shutil.copy(made / "test.csv", folder)


def rows_of(file: Path) -> list[dict[str, str]]:
    """A CSV file as objects."""
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def figures(document: Any, at: int = 0) -> dict[str, dict[str, Any]]:
    return {figure["name"]: figure for figure in document["results"][at]["figures"]}
