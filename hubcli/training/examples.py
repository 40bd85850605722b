"""The rows that a recipe names, checked and parted: what training and evaluation read.

Everything that is wrong with data is told here, before a model is loaded, with file and row. This module knows no tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol

from hubcli.errors import UsageError
from hubcli.recipe import LABELLED, PARTS, Recipe
from hubcli.training import doubts, splits
from hubcli.training.findings import Findings, bad_data, quoted, value
from hubcli.training.rows import Files, Rows

MAX_LABELS = 10_000  # as in a recipe


@dataclass(frozen=True, slots=True)
class Example:
    """One row: what the task reads, by the task's own names, and where it stands (`train.csv:17`).

    `text`, `text_pair`, `prompt`, `answer`, `target` are texts; `label` is an id; `tokens` are texts and `tags` as many ids;
    `messages` are objects with role and content; `image` is a path, numbers (H x W or H x W x C) or `{"bytes": ...}`.
    """

    fields: Mapping[str, Any]
    place: str


@dataclass(frozen=True, slots=True)
class Examples:
    """The rows of each part (train, validation, test), the labels in order of their ids, and what was read from where.

    `files`: part, path as written, size in bytes, sha256 and rows of each file, images_sha256 where its rows name files of
    images; of a dataset part, dataset, subset, revision, fingerprint and rows.
    """

    parts: dict[str, list[Example]]
    labels: tuple[str, ...]
    files: tuple[dict[str, Any], ...]


class Source(Protocol):
    """Where parts come from."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Those that there are."""

    def read(self, part: str, findings: Findings) -> tuple[Rows, list[dict[str, Any]]]:
        """The rows of one, and what is told of where they were."""


def load(
    recipe: Recipe,
    *,
    offline: bool | str = False,
    token: str | None = None,
    only: str | None = None,
    labels: tuple[str, ...] = (),
    seed: int | None = None,
) -> Examples:
    """Read, check and part what a recipe names.

    Labels are `labels`, else `data.labels`, else the distinct values of the train files in order, numbers as numbers. A part
    that the data does not name is cut from train (`hubcli.training.splits` says how); `data.limit` is applied after that.

    Args:
        recipe: what names the data.
        offline: never ask a hub for a dataset; the name of the switch, or True for `--offline`.
        token: for the hub.
        only: read just this part; the others stay empty.
        labels: an adapter's own labels, in place of `data.labels`.
        seed: of `data.limit`; None: the recipe's, which alone says what is cut from train.

    Raises:
        UsageError: E_DATA; rows that can't be used, all of them named by file and row.
        NotFoundError: no such file. MissingExtraError: Parquet or a dataset without its library.
        OfflineError: a dataset that is not on this machine. DiskError: a file that can't be read.
    """
    if only is not None and only not in PARTS:
        raise UsageError(f"only: expected {', '.join(PARTS)}, found {value(only)}")
    source = _source(recipe, offline, token)
    cut = _shares(recipe, source.parts)
    expected = [part for part in PARTS if part == only or (only is None and part in {"train", *source.parts, *cut})]
    declared = (labels or recipe.data.labels) if recipe.task in LABELLED else ()
    from_train = recipe.task in LABELLED and not declared
    rows, files = _read(source, _needed(source.parts, expected, cut, from_train))
    names = declared or (_distinct(rows["train"]) if from_train else ())
    if names:
        _number(rows, names)
    if any(part in cut or part == "train" for part in expected):
        rows |= _cut(rows["train"], cut, recipe)
    rows = {part: _limited(rows[part], recipe, part, seed) for part in expected}
    doubts.refuse(rows, names, cut)
    doubts.warn(rows, names)
    made = {part: _examples(rows[part]) if part in rows else [] for part in PARTS}
    return Examples(made, tuple(names), tuple(files))


def _needed(given: Sequence[str], expected: Sequence[str], cut: Mapping[str, float], from_train: bool) -> list[str]:
    """The parts to read: those expected, and train where one is cut from it or where it alone says what the labels are."""
    wanted = {"train" if part in cut else part for part in expected} | ({"train"} if from_train else set())
    lacking = [part for part in PARTS if part in wanted and part not in given]
    if lacking:
        hint = f"data.{lacking[0]} or data.splits says where it is"
        more = "" if lacking[0] == "train" else f"; split.{lacking[0]} cuts it from train"
        raise bad_data(f"expected a part {lacking[0]}, found {', '.join(given) or 'none'}", hint + more)
    return [part for part in given if part in wanted]


def _source(recipe: Recipe, offline: bool | str, token: str | None) -> Source:
    if recipe.data.dataset is None:
        return Files(recipe)
    from hubcli.training.hosted import Hosted

    return Hosted(recipe, offline=offline, token=token)


def _shares(recipe: Recipe, given: Sequence[str]) -> dict[str, float]:
    """The parts that are cut from train, and how much of it each gets."""
    shares = {"validation": recipe.split.validation, "test": recipe.split.test}
    return {part: share for part, share in shares.items() if share and part not in given}


def _read(source: Source, parts: Sequence[str]) -> tuple[dict[str, Rows], list[dict[str, Any]]]:
    findings = Findings()
    rows: dict[str, Rows] = {}
    files: list[dict[str, Any]] = []
    for part in parts:
        rows[part], told = source.read(part, findings)
        files += told
    findings.stop()
    return rows, files


# --- labels


def _distinct(rows: Rows) -> tuple[str, ...]:
    """The labels there are: as numbers where all are, else as text."""
    found = set(_labels(rows))
    if len(found) > MAX_LABELS:
        raise bad_data(
            f"expected at most {MAX_LABELS} labels, found {len(found)}", "is this the column of the classes?"
        )
    try:
        return tuple(sorted(found, key=lambda label: (float(label), label)))
    except ValueError:
        return tuple(sorted(found))


def _labels(rows: Rows) -> Iterable[Any]:
    return rows.columns["label"] if "label" in rows.columns else (tag for tags in rows.columns["tags"] for tag in tags)


def _number(parts: Mapping[str, Rows], names: Sequence[str]) -> None:
    """Put ids in the place of labels."""
    ids = {name: id for id, name in enumerate(names)}
    kind = f"expected one of the labels {quoted(names)}"
    findings = Findings()
    for rows in parts.values():
        if "label" in rows.columns:
            given = rows.columns["label"]
            unknown = [(row, label) for row, label in enumerate(given) if label not in ids]
            rows.columns["label"] = [ids.get(label) for label in given]
        else:
            given = rows.columns["tags"]
            unknown = [(row, tag) for row, tags in enumerate(given) for tag in tags if tag not in ids]
            rows.columns["tags"] = [[ids.get(tag) for tag in tags] for tags in given]
        for row, label in unknown:
            hint = None if findings else _meant(label, names)  # the search is slow, and one hint is told
            findings.add(kind, rows.places[row], f"found {value(label)}", hint)
    findings.stop()


def _meant(label: str, names: Sequence[str]) -> str:
    close = get_close_matches(label.lower(), [name.lower() for name in names], 1)
    meant = next((name for name in names if close and name.lower() == close[0]), None)
    told = "data.map turns values of the column into labels, data.labels names all there are"
    return f"did you mean {value(meant)}? {told}" if meant is not None else told


# --- parts


def _cut(rows: Rows, shares: Mapping[str, float], recipe: Recipe) -> dict[str, Rows]:
    """Train without the parts cut from it, and these."""
    validation, test = shares.get("validation", 0.0), shares.get("test", 0.0)
    if recipe.split.by == "hash":
        taken = splits.by_hash(rows.keys, validation, test)
    else:
        taken = splits.by_random(len(rows), validation, test, recipe.seed)
    return {part: rows.taken(taken[part]) for part in ("train", *shares)}


def _limited(rows: Rows, recipe: Recipe, part: str, seed: int | None) -> Rows:
    limit = recipe.data.limit.get(part)
    if limit is None or limit >= len(rows):
        return rows
    return rows.taken(splits.chosen(len(rows), limit, recipe.seed if seed is None else seed, part))


def _examples(rows: Rows) -> list[Example]:
    names = tuple(rows.columns)
    whole = zip(*rows.columns.values(), strict=True)
    return [
        Example(dict(zip(names, values, strict=True)), place) for values, place in zip(whole, rows.places, strict=True)
    ]
