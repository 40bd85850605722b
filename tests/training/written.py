"""Data files written for a test, and the recipe that names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hubcli.recipe import Recipe, made
from hubcli.training.examples import Examples

ROW = '{"text": "a", "label": 1}\n'  # of a JSONL file
GOOD = "text,label\na good film,pos\na bad film,neg\nfine,pos\ndull,neg\n"
ODD = [
    {"text": 'quotes "inside", commas', "label": "neg"},
    {"text": "two\nlines", "label": "pos"},
    {"text": "ünïcode \u2028 café 映画", "label": "neg"},
    {"text": "ends with CR\r\nLF", "label": "pos"},
]


def recipe(folder: Path, task: str = "SEQ_CLS", split: dict[str, Any] | None = None, **data: Any) -> Recipe:
    document = {
        "v": 1,
        "task": task,
        "base": {"id": "some/base"},
        "method": {"name": "full"},
        "data": data or {"train": "train.csv"},
        "split": split or {"validation": 0.0, "test": 0.0},
    }
    return made(document, folder)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def fields(found: Examples, part: str = "train") -> list[dict[str, Any]]:
    return [dict(example.fields) for example in found.parts[part]]


def places(found: Examples, part: str = "train") -> list[str]:
    return [example.place for example in found.parts[part]]


def many(folder: Path, count: int = 400, name: str = "train.csv") -> None:
    write(folder, name, "text,label\n" + "".join(f"row {i} of {name},{'ab'[i % 2]}\n" for i in range(count)))
