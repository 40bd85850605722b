"""What parts say about each other: what makes training pointless is refused, what a person should know is a warning."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from hubcli.method import HubcliWarning
from hubcli.training.findings import Findings, bad_data, quoted, several, value
from hubcli.training.rows import Rows


def refuse(parts: Mapping[str, Rows], names: Sequence[str], cut: Mapping[str, float]) -> None:
    """Refuse parts without rows, and a train part of one class.

    Raises:
        UsageError: E_DATA.
    """
    for part, rows in parts.items():
        if not len(rows):
            hint = (
                f'give data.{part} a file, split.{part} another share, or split.by = "random"' if part in cut else None
            )
            raise bad_data(f"{part}: expected rows, found none", hint)
    if names and "train" in parts and len(found := _classes(parts["train"])) < 2:
        only = value(names[next(iter(found))])
        where = parts["train"].places[0]
        raise bad_data(f"train: expected at least two classes, found only {only} (from {where} on)")


def warn(parts: Mapping[str, Rows], names: Sequence[str]) -> None:
    """Warn of classes that a part lacks, of rows that are in two parts, of one input with several labels."""
    told = [*_lacking(parts, names), *_straddling(parts), *_contradicting(parts, names)]
    for text in told:
        warnings.warn(text, HubcliWarning, stacklevel=3)


def _classes(rows: Rows) -> set[int]:
    if "label" in rows.columns:
        return set(rows.columns["label"])
    return {tag for tags in rows.columns["tags"] for tag in tags}


def _lacking(parts: Mapping[str, Rows], names: Sequence[str]) -> list[str]:
    if not names:
        return []
    found = {part: _classes(rows) for part, rows in parts.items()}
    told = []
    for part, own in found.items():
        lacking = [name for id, name in enumerate(names) if id not in own]
        if lacking:
            told.append(f"{part} has no row of {quoted(lacking)}")
        if "train" in found and (unseen := sorted(own - found["train"])):
            told.append(f"{part} has rows of {quoted([names[id] for id in unseen])}, which train has none of")
    return told


def _straddling(parts: Mapping[str, Rows]) -> list[str]:
    told = []
    for part, others in (("train", ("validation", "test")), ("validation", ("test",))):
        known = set(parts[part].keys) if part in parts else set()
        counts = {other: sum(key in known for key in parts[other].keys) for other in others if other in parts}
        found = " and ".join(f"{several(count, 'row')} of {other}" for other, count in counts.items() if count)
        told += [f"rows with the same input as a row of {part}: {found}"] if found else []
    return told


def _contradicting(parts: Mapping[str, Rows], names: Sequence[str]) -> list[str]:
    first: dict[bytes, tuple[int, str]] = {}
    findings = Findings()
    for rows in parts.values():
        if "label" not in rows.columns:
            break
        for key, label, place in zip(rows.keys, rows.columns["label"], rows.places, strict=True):
            known, where = first.setdefault(key, (label, place))
            if known != label:
                found = f"{value(names[label])}, but {value(names[known])} in {where}"
                findings.add("rows with the same input and another label", place, found)
    return findings.told()
