"""What a data set is, and how it is written: a folder that appears whole, and says where it came from."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hubcli.out_folder import appearing
from recipes.data.archive import Archive, Archives
from recipes.data.rows import SPLIT, Parts, Row

SOURCE = "SOURCE.json"


@dataclass(frozen=True)
class Made:
    """The rows of each part, how many were left out, by reason, and the files that rows name."""

    parts: Parts
    dropped: Counter[str] = field(default_factory=Counter)
    extra: dict[str, bytes] = field(default_factory=dict)  # path in the folder -> bytes that rows name


@dataclass(frozen=True)
class Dataset:
    """One data set: its sources, how rows are made of them, and what is said of it."""

    name: str
    about: str
    archives: tuple[Archive, ...]
    licence: str
    citation: str
    columns: tuple[str, ...]
    build: Callable[[Archives], Made]
    key: str  # what the split's hash is taken of
    label: str | None = None  # the column with one of a few classes
    format: str = "csv"
    split: str = SPLIT
    v: int = 1  # raised when the same archives give other rows


def make(dataset: Dataset, archives: Archives, out: Path) -> dict[str, Any]:
    """Write OUT/<name> and return what its SOURCE.json says."""
    made = dataset.build(archives)
    with appearing(out / dataset.name, replace=True) as folder:
        files = {f"{part}.{dataset.format}": encoded(dataset, rows) for part, rows in made.parts.items()} | made.extra
        for name, raw in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(raw)
        said = _source(dataset, made, {name: hashlib.sha256(raw).hexdigest() for name, raw in files.items()})
        (folder / SOURCE).write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return said


def complete(dataset: Dataset, out: Path) -> dict[str, Any] | None:
    """What SOURCE.json says, where it is of this version of the data set and every file is the one it names."""
    folder = out / dataset.name
    try:
        said: dict[str, Any] = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
        if said["name"] != dataset.name or said["v"] != dataset.v:
            return None
        if said["archives"] != [asdict(archive) for archive in dataset.archives]:
            return None
        whole = all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == h for name, h in said["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return said if whole else None


def encoded(dataset: Dataset, rows: list[Row]) -> bytes:
    if dataset.format == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, dataset.columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode()


def _source(dataset: Dataset, made: Made, files: dict[str, str]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "name": dataset.name,
        "v": dataset.v,
        "about": dataset.about,
        "licence": dataset.licence,
        "citation": dataset.citation,
        "archives": [asdict(archive) for archive in dataset.archives],
        "columns": list(dataset.columns),
        "rows": {part: len(rows) for part, rows in made.parts.items()},
        "split": {"key": dataset.key, "rule": dataset.split},
        "dropped": dict(sorted((why, n) for why, n in made.dropped.items() if n)),
        "files": files,
    }
    if dataset.label is not None:
        said["label"] = dataset.label
        said["classes"] = {part: _classes(rows, dataset.label) for part, rows in made.parts.items()}
    return said


def _classes(rows: list[Row], label: str) -> dict[str, int]:
    return dict(sorted(Counter(str(row[label]) for row in rows).items()))
