"""What a proposal changes in an index: what was published stays, and what is new has a time that can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any

from hubcli.schema import Fault, shown

MUTABLE = ("yanked", "status", "status_reason")
CLOCKS_DIFFER = timedelta(minutes=10)
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def dicts(value: Any) -> list[dict[str, Any]]:
    """The objects of a list from outside; nothing where it is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def listing(documents: Mapping[str, Any], *, quarantined: bool = True) -> dict[str, set[str]]:
    """sha256 → names of the entries that list such a file; without `quarantined`, in a release that is not."""
    found: dict[str, set[str]] = {}
    for name, document in documents.items():
        for release in dicts(document.get("releases")):
            for file in dicts(release.get("files")) if quarantined or release.get("status") != "quarantined" else ():
                found.setdefault(str(file.get("sha256")), set()).add(name)
    return found


def changes(old: dict[str, Any], new: dict[str, Any] | None) -> list[Fault]:
    """What was published and is other now: a release may only change `yanked`, `status` and `status_reason`."""
    if new is None:
        return [Fault("", "the published entry", "nothing", "E_IMMUTABLE")]
    now = {release.get("version"): (n, release) for n, release in enumerate(dicts(new.get("releases")))}
    faults = [
        Fault(key, shown(old.get(key)), shown(new.get(key)), "E_IMMUTABLE")
        for key in ("name", "kind")
        if old.get(key) != new.get(key)
    ]
    for release in dicts(old.get("releases")):
        version = release.get("version")
        if version not in now:
            faults.append(Fault("releases", f"version {shown(version)}, which is published", "nothing", "E_IMMUTABLE"))
            continue
        number, current = now[version]
        kept = {k: v for k, v in release.items() if k not in MUTABLE}
        faults += _differences(kept, {k: v for k, v in current.items() if k not in MUTABLE}, f"releases[{number}]")
    return faults


def _differences(old: Any, new: Any, at: str) -> list[Fault]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [fault for key in keys for fault in _differences(old.get(key), new.get(key), f"{at}.{key}")]
    if isinstance(old, list) and isinstance(new, list):
        pairs = enumerate(zip_longest(old, new))
        return [fault for number, (a, b) in pairs for fault in _differences(a, b, f"{at}[{number}]")]
    same = old == new and isinstance(old, bool) == isinstance(new, bool)
    return [] if same else [Fault(at, f"{shown(old)} as published", shown(new), "E_IMMUTABLE")]


def times(old: dict[str, Any] | None, new: dict[str, Any], now: datetime) -> Iterator[Fault]:
    """New releases that say they were published in the future, or before the published release that they follow."""
    before = {
        str(release.get("version")): str(release.get("published")) for release in dicts((old or {}).get("releases"))
    }
    latest = now + CLOCKS_DIFFER
    for number, release in enumerate(dicts(new.get("releases"))):
        version, published = str(release.get("version")), str(release.get("published"))
        if version in before:
            continue
        if published > latest.strftime(_TIME):
            yield Fault(f"releases[{number}].published", f"a time until now ({now.strftime(_TIME)})", shown(published))
        previous = _previous(version, before)
        if previous and published < before[previous]:
            expected = f"a time after {previous} was published ({before[previous]})"
            yield Fault(f"releases[{number}].published", expected, shown(published))


def _previous(version: str, published: dict[str, str]) -> str | None:
    """The highest published version below this one; None where there is none, or a version is none."""
    from hubcli.versions import in_order

    try:
        ordered = in_order([version, *published])
    except ValueError:
        return None
    at = ordered.index(version)
    return ordered[at - 1] if at else None
