"""Index folders with compositions and fusions, made without torch."""

from __future__ import annotations

from typing import Any

from tests.support.adapters import BASE_ID, IndexFolder, entry


def composed(expression: str, requires: dict[str, str], version: str = "1.0.0", **fields: Any) -> dict[str, Any]:
    """A release of a composition."""
    return {
        "version": version, "license": "none", "published": "2026-01-02T03:04:05Z", "expression": expression,
        "requires": requires, "base": {"id": BASE_ID}, "task": "feature-extraction", **fields,
    }  # fmt: skip


def compose(index: IndexFolder, name: str, *releases: dict[str, Any], kind: str = "composition") -> None:
    """Write an entry of a composition."""
    index.write(name, entry(name, [*releases], kind=kind))
