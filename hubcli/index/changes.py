"""What a proposal changes in an index: what was published stays, and what is new has a time that can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any

from hubcli.schema import Fault, shown

MUTABLE = ("yanked", "status", "status_reason")
# fields of a release where null says "none"
NULLABLE = ("method", "expression", "base", "task", "hub", "origin", "head")
CLOCKS_DIFFER = timedelta(minutes=10)
_NOTHING = object()  # what is not there, where null is
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
    now = {_version(release): (n, release) for n, release in enumerate(dicts(new.get("releases")))}
    faults = [
        Fault(key, shown(old.get(key)), shown(new.get(key)), "E_IMMUTABLE")
        for key in ("name", "kind")
        if old.get(key) != new.get(key)
    ]
    for release in dicts(old.get("releases")):
        version = _version(release)
        if version not in now:
            faults.append(Fault("releases", f"version {shown(version)}, which is published", "nothing", "E_IMMUTABLE"))
            continue
        number, current = now[version]
        faults += _differences(_fixed(release), _fixed(current), f"releases[{number}]")
    return faults


def _version(release: dict[str, Any]) -> str:
    """The version that a release says it is; of what is no text, its JSON."""
    version = release.get("version")
    return version if isinstance(version, str) else shown(version)


def _fixed(release: dict[str, Any]) -> dict[str, Any]:
    """What of a release never changes; a field that says "none" by null is as good as none."""
    return {k: v for k, v in release.items() if k not in MUTABLE and not (v is None and k in NULLABLE)}


def _differences(old: Any, new: Any, at: str) -> list[Fault]:
    """Where two values differ as JSON: 8 is not 8.0 and not true, and null is something."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        pairs = [(f"{at}.{key}", old.get(key, _NOTHING), new.get(key, _NOTHING)) for key in keys]
    elif isinstance(old, list) and isinstance(new, list):
        longest = zip_longest(old, new, fillvalue=_NOTHING)
        pairs = [(f"{at}[{number}]", a, b) for number, (a, b) in enumerate(longest)]
    else:
        same = type(old) is type(new) and repr(old) == repr(new)
        return [] if same else [Fault(at, f"{_told(old)} as published", _told(new), "E_IMMUTABLE")]
    return [fault for field, a, b in pairs for fault in _differences(a, b, field)]


def _told(value: Any) -> str:
    return "nothing" if value is _NOTHING else shown(value)


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
