"""The rows of a part: read from its files or from a dataset, checked, and known by what their input says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubcli.errors import DiskError
from hubcli.recipe import PARTS, Recipe
from hubcli.training import checks, splits, tables
from hubcli.training.findings import Findings

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """Checked rows, column by column: what the task reads -> values, where each row stands, the key of its input."""

    columns: dict[str, list[Any]]
    places: list[str]
    keys: list[bytes]

    def __len__(self) -> int:
        return len(self.places)

    def taken(self, rows: Sequence[int]) -> Rows:
        """Some of them."""
        columns = {key: [values[row] for row in rows] for key, values in self.columns.items()}
        return Rows(columns, [self.places[row] for row in rows], [self.keys[row] for row in rows])


class Files:
    """Parts that are files."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._parts: dict[str, tuple[str, ...]] = {part: getattr(recipe.data, part) for part in PARTS}

    @property
    def parts(self) -> tuple[str, ...]:
        """Those that the recipe names files for."""
        return tuple(part for part in PARTS if self._parts[part])

    def read(self, part: str, findings: Findings) -> tuple[Rows, list[Json]]:
        """The rows of a part, one file after the other, and what is told of each file.

        Raises:
            HubcliError: as `tables.described` and `tables.read`. Faults of single rows go to `findings`.
        """
        found: list[Rows] = []
        told: list[Json] = []
        for written in self._parts[part]:
            file = self._recipe.place(written)
            facts = tables.described(file, written)
            table = tables.read(file, written, self._recipe.columns, self._recipe.data)
            rows = checked(table, self._recipe, findings)
            found.append(rows)
            told.append({"part": part, **facts, **_beside(rows), "rows": len(table.numbers)})
        return _joined(found), told


def checked(table: tables.Table, recipe: Recipe, findings: Findings) -> Rows:
    """The rows of a table as the task reads them; no keys while there is something wrong with them."""
    columns = checks.fields(table, recipe.data, findings)
    return Rows(columns, table.places, [] if findings else _keys(columns))


def _beside(rows: Rows) -> Json:
    """The sha256 over the images that stand in files of their own, in the order of their rows: the table only names them."""
    if not any(isinstance(image, str) for image in rows.columns.get("image", ())) or not rows.keys:
        return {}
    return {"images_sha256": hashlib.sha256(b"".join(rows.keys)).hexdigest()}


def _joined(parts: Sequence[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    columns = {key: [one for part in parts for one in part.columns[key]] for key in parts[0].columns}
    return Rows(columns, [one for part in parts for one in part.places], [one for part in parts for one in part.keys])


def _keys(columns: Mapping[str, list[Any]]) -> list[bytes]:
    """The key of each row's input: its text or texts, its tokens, its prompt, the turns before the answer, its image."""
    if "image" in columns:
        seen: dict[str, bytes] = {}
        return [_image(image, seen) for image in columns["image"]]
    if "messages" in columns:
        return [splits.key(_turns(messages)) for messages in columns["messages"]]
    if "tokens" in columns:
        return [splits.key(tokens) for tokens in columns["tokens"]]
    inputs = [columns[key] for key in ("text", "text_pair", "prompt") if key in columns]
    return [splits.key(texts) for texts in zip(*inputs, strict=True)]


def _turns(messages: Sequence[Mapping[str, str]]) -> Iterable[str]:
    before = messages[:-1] or messages
    return [text for message in before for text in (message["role"], message["content"])]


def _image(image: Any, seen: dict[str, bytes]) -> bytes:
    if isinstance(image, Mapping):
        return hashlib.sha256(image["bytes"]).digest()
    if isinstance(image, list):
        return splits.key([json.dumps(image)])
    if image not in seen:
        try:
            with Path(image).open("rb") as stream:
                seen[image] = hashlib.file_digest(stream, "sha256").digest()
        except OSError as error:
            raise DiskError(f"can't read the image {image}", cause=error.strerror) from None
    return seen[image]
