"""Checking an index folder as its keepers do: every fault of every entry, names that look alike, and edits of what is out.

What a reader tolerates (keys from a newer writer) is a fault here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from hubcli.errors import NotFoundError
from hubcli.index.entries import check_entry
from hubcli.index.sources import FILES, META, entry_files, read_entries, read_meta
from hubcli.index.static import measure
from hubcli.schema import Fault, shown

MUTABLE = ("yanked", "status", "status_reason")
NEAR_LENGTH = 8
_ALIKE = str.maketrans("01l-_.", "oii   ")


def check_folder(folder: Path, *, against: Path | None = None) -> tuple[int, list[tuple[str, Fault]]]:
    """(number of entries, (file, fault) of all that is wrong in an index folder).

    Args:
        folder: `<group>/<name>.json` and `_files/`.
        against: an older state of the same folder: what was published there must not have changed.

    Raises:
        NotFoundError: there is no such folder.
        EntryError: `_index.json` can't be read.
    """
    for root in (folder, against):
        if root is not None and not root.is_dir():
            raise NotFoundError(f"the index folder {root} does not exist")
    documents, faults = _documents(folder)
    faults += _stored_files(folder, documents.values())
    faults += _cycles(documents)
    known = {frozenset(pair) for pair in read_meta(folder).get("similar", [])}
    for name, other in near_collisions(documents):
        if frozenset((name, other)) not in known:
            expected = f"a name that is not easily taken for another (or the pair under 'similar' in {META})"
            faults.append((f"{other}.json", Fault("name", expected, f"{other} beside {name}", "E_NAME_COLLISION")))
    if against is not None:
        published, _ = _documents(against)
        for name, old in published.items():
            faults += [(f"{name}.json", fault) for fault in changes(old, documents.get(name))]
    return len(documents), faults


def _documents(folder: Path) -> tuple[dict[str, Any], list[tuple[str, Fault]]]:
    """name → document of the entries that parse, and the faults of all."""
    documents: dict[str, Any] = {}
    faults: list[tuple[str, Fault]] = []
    for name, raw in read_entries(entry_files(folder)):
        file = f"{ascii(name)[1:-1]}.json"
        checked = check_entry(raw, name=name, where=file)
        faults += [(file, fault) for fault in checked.faults + checked.unknown]
        if isinstance(checked.document, dict):
            documents[name] = checked.document
    return documents, faults


def _cycles(documents: dict[str, Any]) -> Iterator[tuple[str, Fault]]:
    """Entries whose newest releases require each other in a ring."""
    edges = {name: _required(document) for name, document in documents.items()}
    for name, direct in edges.items():
        reached: set[str] = set()
        ahead = [*direct]
        while ahead:
            required = ahead.pop()
            if required not in reached:
                reached.add(required)
                ahead += edges.get(required, ())
        if name in reached and name not in direct:
            yield f"{name}.json", Fault("releases", "requirements that don't lead back", name, "E_CYCLE")


def _required(document: dict[str, Any]) -> list[str]:
    releases = [r for r in _dicts(document.get("releases")) if isinstance(r.get("requires"), dict)]
    return [*releases[-1]["requires"]] if releases and document.get("kind") != "adapter" else []


def _stored_files(folder: Path, documents: Iterable[Any]) -> Iterator[tuple[str, Fault]]:
    """Files in `_files/` that are not what their name says, those that entries promise another size of, and missing ones."""
    sizes: dict[str, int] = {}
    for file in sorted((folder / FILES).iterdir()) if (folder / FILES).is_dir() else ():
        with file.open("rb") as stream:
            size, sha256 = measure(stream)
        sizes[sha256] = size
        if sha256 != file.name:
            yield f"{FILES}/{file.name}", Fault("", "the sha256 that its name is", sha256, "E_HASH")
    for document in documents:
        for number, release in enumerate(_dicts(document.get("releases"))):
            for at, spec in enumerate(_dicts(release.get("files"))):
                for fault in _file_faults(release, spec, f"releases[{number}].files[{at}]", sizes):
                    yield f"{document.get('name')}.json", fault


def _file_faults(release: dict[str, Any], spec: dict[str, Any], at: str, sizes: dict[str, int]) -> Iterator[Fault]:
    """Another size than that of the file in `_files/`; or, without such a file, no hub. A quarantined release needs none."""
    size = sizes.get(str(spec.get("sha256")))
    if size is not None and size != spec.get("size"):
        yield Fault(f"{shown(spec.get('path'))[1:-1]}.size", str(size), shown(spec.get("size")), "E_SIZE")
    if size is None and not release.get("hub") and release.get("status") != "quarantined":
        expected = f"a file {FILES}/{shown(spec.get('sha256'), 80)[1:-1]} or a hub"
        yield Fault(at, expected, "neither", "E_NOT_FOUND")


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def changes(old: dict[str, Any], new: dict[str, Any] | None) -> list[Fault]:
    """What was published and is other now: a release may only change `yanked`, `status` and `status_reason`."""
    if new is None:
        return [Fault("", "the published entry", "nothing", "E_IMMUTABLE")]
    now = {release.get("version"): (n, release) for n, release in enumerate(_dicts(new.get("releases")))}
    faults = [
        Fault(key, shown(old.get(key)), shown(new.get(key)), "E_IMMUTABLE")
        for key in ("name", "kind")
        if old.get(key) != new.get(key)
    ]
    for release in _dicts(old.get("releases")):
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
    return [] if old == new else [Fault(at, f"{shown(old)} as published", shown(new), "E_IMMUTABLE")]


def near_collisions(names: Collection[str]) -> list[tuple[str, str]]:
    """Pairs of names that a person may take for each other, both in order.

    They look alike (`-`, `_` and `.` count as the same, as do 0 and o, 1, l and i, rn and m), or are one edit
    apart: a letter more, less, other, or two swapped. Names under 8 letters, and such as differ in a digit or
    in a short part (`en` and `de`, `lora` and `dora`), may be one edit apart.
    """
    buckets: dict[str, list[str]] = {}
    for name in sorted(names):
        for key in {"=" + _folded(name), *(name[:i] + name[i + 1 :] for i in range(len(name))), name}:
            buckets.setdefault(key, []).append(name)
    pairs = {(a, b) for bucket in buckets.values() for i, a in enumerate(bucket) for b in bucket[i + 1 :]}
    return sorted(pair for pair in pairs if _folded(pair[0]) == _folded(pair[1]) or _near(*pair))


def _folded(name: str) -> str:
    return name.lower().replace("rn", "m").replace("vv", "w").translate(_ALIKE).replace(" ", "")


def _near(a: str, b: str) -> bool:
    """One edit apart (Damerau-Levenshtein), in a part that is long enough to be misread."""
    if min(len(a), len(b)) < NEAR_LENGTH or not one_edit(a, b):
        return False
    parts = zip_longest(_parts(a), _parts(b), fillvalue="")
    x, y = next((x, y) for x, y in parts if x != y)
    return min(len(x), len(y)) > 4 and not any(c.isdigit() for c in set(x) ^ set(y))


def _parts(name: str) -> list[str]:
    return name.replace("/", "-").replace("_", "-").replace(".", "-").split("-")


def one_edit(a: str, b: str) -> bool:
    """Is one insertion, deletion, substitution or swap of neighbours all it takes?"""
    if abs(len(a) - len(b)) > 1 or a == b:
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    x, y = a[start:], b[start:]
    return x[1:] == y[1:] or x[1:] == y or x == y[1:] or (x[1::-1] == y[:2] and x[2:] == y[2:])
