"""Names and versions of entries, from those of another index: the same every time, and no two alike by accident."""

from __future__ import annotations

import hashlib
import re

LIMIT = 64


def entry_name(group: str, stem: str, variant: str = "") -> str:
    """`group/name` of a card: its folder and its file's name, and what tells its variants apart.

    Each is put into the letters that names have. One that would be too long keeps its variant whole, and gets six hex digits of
    its sha256.
    """
    plain, own = _plain(stem), _plain(variant)
    name = f"{plain}-{own}" if own else plain
    if len(name) > LIMIT:
        mark = hashlib.sha256(f"{stem}@{variant}".encode()).hexdigest()[:6]
        end = f"-{mark}-{own}"[: LIMIT - 8] if own else f"-{mark}"
        name = (plain[: LIMIT - len(end)].rstrip("._-") + end).rstrip("._-")
    return f"{_plain(group)[:LIMIT].rstrip('._-')}/{name}"


def _plain(text: str) -> str:
    """Lower case, with everything that no name may hold as a hyphen, and no two marks in a row."""
    return re.sub(r"-{2,}|\.{2,}|[^a-z0-9._-]+", "-", text.lower()).strip("._-").replace("--", "-")


def numbered(labels: list[str]) -> bool:
    """Whether versions are numbers from 1 to 999,999, so that one comes after another."""
    return all(re.fullmatch(r"[1-9][0-9]{0,5}", label) for label in labels)


def semver(label: str) -> str:
    """The version of a release: N.0.0 of a number N; 1.0.0 of a name."""
    return f"{label}.0.0" if numbered([label]) else "1.0.0"
