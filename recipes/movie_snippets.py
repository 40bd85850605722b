"""The movie review snippets of the VADER study: read from the source distribution, split by hash, cut into batches."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

EVAL_BATCH = 64


class Row(NamedTuple):
    text: str
    label: int


class Encoded(NamedTuple):
    ids: list[list[int]]
    labels: torch.Tensor  # (rows,), int64


def normalised(text: str) -> str:
    return " ".join(text.lower().split())


def read_rows(archive: Path, data: dict[str, Any]) -> list[Row]:
    """The labelled snippets, in file order, each text once; ValueError where the file is not the recipe's."""
    raw = archive.read_bytes()
    check_sha256(archive, hashlib.sha256(raw).hexdigest(), data["archive_sha256"])
    with tarfile.open(fileobj=io.BytesIO(raw)) as outer:
        inner = outer.extractfile(f"{archive.name.removesuffix('.tar.gz')}/{data['member']}")
        assert inner is not None, data["member"]
        with tarfile.open(fileobj=io.BytesIO(inner.read())) as corpus:
            table = corpus.extractfile(data["table"])
            assert table is not None, data["table"]
            lines = table.read().decode("utf-8").splitlines()
    rows: dict[str, Row] = {}
    for line in lines:
        fields = dict(zip(data["columns"], line.split("\t"), strict=True))
        rating = float(fields["rating"])
        if abs(rating) > data["rating_above"]:
            rows.setdefault(normalised(fields["text"]), Row(fields["text"].strip(), int(rating > 0)))
    if len(rows) != data["rows"]:
        raise ValueError(f"{archive}: expected {data['rows']} rows, found {len(rows)}")
    return list(rows.values())


def part_of(text: str, split: dict[str, int]) -> str:
    digest = int(hashlib.sha256(normalised(text).encode()).hexdigest(), 16)
    if digest % split["test_modulus"] == 0:
        return "test"
    return "validation" if digest // split["test_modulus"] % split["validation_modulus"] == 0 else "train"


def check_sha256(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise ValueError(f"{path}: expected sha256 {expected}, found {found}")


def encode(rows: list[Row], tokenizer: Any, max_length: int) -> Encoded:
    ids = tokenizer([row.text for row in rows], truncation=True, max_length=max_length)["input_ids"]
    return Encoded(ids, torch.tensor([row.label for row in rows]))


def batch_of(data: Encoded, picked: list[int]) -> dict[str, torch.Tensor]:
    """Rows padded to the longest of them; MiniLM's padding id is 0."""
    longest = max(len(data.ids[i]) for i in picked)
    padded = [data.ids[i] + [0] * (longest - len(data.ids[i])) for i in picked]
    mask = [[1] * len(data.ids[i]) + [0] * (longest - len(data.ids[i])) for i in picked]
    return {"input_ids": torch.tensor(padded), "attention_mask": torch.tensor(mask)}


def training_batches(data: Encoded, size: int, rng: random.Random) -> Iterator[list[int]]:
    """Every row once, in batches of similar length: shuffled, then sorted within pools of 50 batches."""
    order = list(range(len(data.ids)))
    rng.shuffle(order)
    pools = [order[i : i + 50 * size] for i in range(0, len(order), 50 * size)]
    by_length = [sorted(pool, key=lambda i: len(data.ids[i])) for pool in pools]
    batches = [pool[i : i + size] for pool in by_length for i in range(0, len(pool), size)]
    rng.shuffle(batches)
    yield from batches


def evaluation_batches(data: Encoded) -> Iterator[list[int]]:
    order = sorted(range(len(data.ids)), key=lambda i: len(data.ids[i]))
    yield from (order[i : i + EVAL_BATCH] for i in range(0, len(order), EVAL_BATCH))
