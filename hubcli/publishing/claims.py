"""The figures that a README's `model-index` states: they are the release's own, say something else, or nobody checked them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from huggingface_hub import EvalResult

from hubcli.manifest import Json, Metric
from hubcli.publishing.findings import Finding

ROUNDED = 0.005  # what a person who rounds a figure may leave out, of a share or of a larger figure's own size
SPLIT = "test"  # what a figure is stated on that names no split


def slug(dataset: str) -> str:
    """A data set's name as a hub's ids are written."""
    return re.sub(r"[^a-z0-9]+", "-", dataset.lower()).strip("-") or "data"


def number(value: Any) -> float | None:
    """A stated value, or None where it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def own(result: EvalResult, metrics: Iterable[Metric], dataset_id: str | None) -> Metric | None:
    """The release's figure that a stated one is about."""
    for metric in metrics:
        known = {metric.dataset.lower(), slug(metric.dataset), *([dataset_id.lower()] if dataset_id else ())}
        named = {str(result.dataset_name).lower(), str(result.dataset_type).lower()}
        split = result.dataset_split in (None, metric.split)
        if str(result.metric_type).lower() == metric.name.lower() and split and known & named:
            return metric
    return None


def check(
    results: Sequence[EvalResult], metrics: Sequence[Metric], dataset_id: str | None, file: str
) -> Iterator[Finding]:
    """What is no figure, and what says something else than the release's figure of the same name and data."""
    hint = "state what was measured, or leave the figure out: the card gets the release's own"
    for result in results:
        value, metric = number(result.metric_value), own(result, metrics, dataset_id)
        what = (
            f"model-index: {ascii(str(result.metric_type))[1:-1][:60]} on {ascii(str(result.dataset_name))[1:-1][:60]}"
        )
        if value is None:
            yield Finding(file, what, "a number", ascii(result.metric_value)[:60], hint, "E_METRIC")
        elif metric is not None and not _says(value, metric.value):
            yield Finding(file, what, f"{metric.value:g}, as the release has it", f"{value:g}", hint, "E_METRIC")


def _says(stated: float, value: float) -> bool:
    """Whether a person may have meant the value: rounded, or in per cent."""
    meant = [stated, stated / 100] if abs(value) <= 1 < abs(stated) else [stated]
    return any(abs(one - value) <= ROUNDED * max(1.0, abs(value)) for one in meant)


def others(results: Iterable[EvalResult], metrics: Sequence[Metric], dataset_id: str | None) -> list[EvalResult]:
    """The stated figures that the release has not."""
    return [result for result in results if own(result, metrics, dataset_id) is None]


def rows(results: Iterable[EvalResult]) -> list[Json]:
    """Stated figures as rows to reproduce; `card` marks where they stand."""
    found = [(result, number(result.metric_value)) for result in results]
    return [
        {
            "name": str(result.metric_type),
            "value": value,
            "dataset": str(result.dataset_name),
            "split": result.dataset_split or SPLIT,
            "card": True,
        }
        for result, value in found
        if value is not None
    ]
