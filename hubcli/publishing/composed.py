"""A composition as a draft: an expression and what it requires, and no files of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hubcli.composition import Expr
from hubcli.compositions import COMPOSITION
from hubcli.errors import UsageError
from hubcli.index.compose import compose
from hubcli.manifest import Resolved
from hubcli.publishing import checks
from hubcli.publishing.draft import Draft

NO_LICENSE = "none"  # a composition has no files to license


def composed(
    expr: Expr,
    name: str,
    version: str,
    found: Mapping[str, Resolved],
    *,
    description: str | None,
    authors: Sequence[str | Mapping[str, Any]],
    license: str,
    place: str,
    published: str,
) -> Draft:
    """The draft of a composition.

    Args:
        found: name → release, of every name in the expression.
        authors: names, or authors as an entry has them.
        place: the index it goes to, as `Resolved.index` names it.
        published: now.

    Raises:
        UsageError: no description or author; as `compose`. BaseMismatchError: as `compose`.
    """
    if not description or not authors:
        raise UsageError(f"{name} is a new entry: it needs a description and an author",
                         hint='--description "…" --author NAME')  # fmt: skip
    release = compose(expr, name, version, found, license=license, published=published)
    away = [f"{part.name} is in the index {part.index}, not in this one: who installs {name} needs both"
            for part in found.values() if part.index != place]  # fmt: skip
    return Draft(name, COMPOSITION, description, checks.authors_of(authors), release, (), tuple(away))


def unlicensed(found: Mapping[str, Resolved]) -> str:
    """What a person should know of a composition that names no licence."""
    parts = ", ".join(f"{part.name}: {part.release.license}" for part in found.values())
    return f"no licence is named for the composition itself (--license); its parts keep theirs ({parts})"
