"""A folder of cards into an index folder: what is new is added, what is there stays, and everything is accounted for."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hubcli.errors import DiskError, NotFoundError, UsageError
from hubcli.index.changes import changes
from hubcli.index.entries import check_entry, dump
from hubcli.index.importing.adapterhub import LICENSE, reading
from hubcli.index.importing.cards import MAX_CARD
from hubcli.index.importing.fields import Json
from hubcli.index.similar import near_collisions, near_groups
from hubcli.index.sources import META, entry_files, read_entries, read_meta
from hubcli.manifest import UNDATED
from hubcli.out_folder import appearing
from hubcli.whole_file import write_whole

CARDS = "adapters"
ALL = (
    f"no card has a licence: it is said to be '{LICENSE}'",
    f"no card has a date: all are said to be published at {UNDATED}",
    "no card has the size of its archive, and hubcli installs none of them: they are listed with where they are",
)


@dataclass(slots=True)
class Imported:
    """What became of a folder of cards.

    `entries` maps names to documents, new ones and those that a release was added to; `imported` has a row (name, version, card,
    card_version, changed) for each release, `left_out` one (card, version or None, reason), `notes` what else was decided, with
    the cards it is about. `similar` are new pairs of names for `_index.json`.
    """

    entries: dict[str, Json] = field(default_factory=dict)
    imported: list[Json] = field(default_factory=list)
    left_out: list[Json] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)
    similar: list[tuple[str, str]] = field(default_factory=list)

    def leave(self, card: str, version: str | None, reason: str) -> None:
        """One card, or one version of it, is no release here."""
        self.left_out.append({"card": card, "version": version, "reason": reason})

    def note(self, text: str, card: str) -> None:
        """Something that was decided for a card."""
        self.notes.setdefault(text, []).append(card)


def import_cards(folder: Path, out: Path) -> Imported:
    """Read AdapterHub's cards, and say what they become in an index folder; nothing is written.

    Args:
        folder: a checkout of AdapterHub's index, or its `adapters/`: `<group>/<name>.yaml`.
        out: the index folder, which may be there already.

    Raises:
        NotFoundError: no such folder, or no card in it.
        UsageError: `out` is no folder. EntryError: its `_index.json` can't be read.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is no folder")
    root = folder / CARDS if (folder / CARDS).is_dir() else folder
    cards = sorted(_cards(root)) if root.is_dir() else []
    if not cards:
        raise NotFoundError(
            f"{folder} has no cards",
            hint=f"expected {CARDS}/<group>/<name>.yaml or .yml, as AdapterHub's index has them",
        )
    there = dict(read_entries(entry_files(out))) if out.is_dir() else {}
    found = Imported()
    taken: dict[str, str] = {}
    for text in ALL:
        found.notes[text] = []
    for path in cards:
        _card(found, root / path, f"{CARDS}/{path}", there, taken)
    _alike(found, there, read_meta(out) if out.is_dir() else {})
    return found


def _cards(root: Path) -> Iterator[str]:
    """Paths of YAML files below a folder; links to folders are not followed."""
    for parent, folders, files in os.walk(root):
        folders.sort()
        for name in files:
            if name.endswith((".yaml", ".yml")):
                yield (Path(parent) / name).relative_to(root).as_posix()


def _card(found: Imported, file: Path, path: str, there: dict[str, bytes], taken: dict[str, str]) -> None:
    """One card: its entries against what is there, and against those of the cards before it. `taken`: name → card."""
    if path.count("/") != 2 or not stat.S_ISREG(file.lstat().st_mode):
        found.leave(path, None, f"expected a regular file {CARDS}/<group>/<name>.yaml or .yml")
        return
    with file.open("rb") as stream:
        made = reading(stream.read(MAX_CARD + 1), path)
    for version, reason in made.left_out:
        found.leave(path, version, reason)
    for note in made.notes:
        found.note(note, path)
    for document, labels in made.entries:
        name = document["name"]
        if name in taken:
            for label in labels:
                found.leave(path, label, f"its name would be {name}, which {taken[name]} has")
            continue
        taken[name] = path
        _merge(found, document, labels, path, there.get(name))


def _merge(found: Imported, new: Json, labels: list[str], path: str, raw: bytes | None) -> None:
    """An entry as it is new; or what it adds to the one that is there, of which nothing changes."""
    name = new["name"]
    present: dict[str, Json] = {}
    if raw is not None:
        old = check_entry(raw, name=name, where=f"{name}.json")
        if old.document is None or old.faults:
            for label in labels:
                found.leave(path, label, f"{name}.json is there, and has faults")
            return
        present = {release["version"]: release for release in old.document["releases"]}
    added = []
    for release, label in zip(new["releases"], labels, strict=True):
        version = release["version"]
        kept = present.get(version)
        if kept is not None and (other := changes({"releases": [kept]}, {"releases": [release]})):
            found.leave(
                path, label, f"{name} {version} is there with another {other[0].field.partition('.')[2]}: it stays"
            )
            continue
        added += [release] if kept is None else []
        row = {"name": name, "version": version, "card": path, "card_version": label, "changed": kept is None}
        found.imported.append(row)
    if raw is None:
        found.entries[name] = new
    elif added:
        assert old.document is not None
        found.entries[name] = {**old.document, "releases": [*old.document["releases"], *added]}


def _alike(found: Imported, there: dict[str, bytes], meta: Json) -> None:
    """New names that may be taken for others: one that is there already wins; two of the cards are noted as meant."""
    known = {frozenset(pair) for pair in meta.get("similar", [])}
    for pair in _near(found, there, known):
        new = [name for name in pair if not _present(name, there)]
        if len(new) == 1:
            (other,) = set(pair) - set(new)
            _refuse(found, new[0], other)
    # only now, for a pair says that both names are meant, and a name that was refused is not
    for pair in _near(found, there, known):
        if not any(_present(name, there) for name in pair):
            found.similar.append(pair)
            found.note(
                f"{pair[0]} and {pair[1]} are easily taken for each other: the pair stands under 'similar' in {META}",
                "",
            )


def _near(found: Imported, there: dict[str, bytes], known: set[frozenset[str]]) -> list[tuple[str, str]]:
    """Pairs of names, and of groups, that may be taken for each other, but those that are said to be meant."""
    names = there.keys() | found.entries.keys()
    return [pair for pair in [*near_collisions(names), *near_groups(names)] if frozenset(pair) not in known]


def _refuse(found: Imported, new: str, other: str) -> None:
    """A name, or all of a group, is no entry here, with all its releases."""
    for name in [name for name in found.entries if _means(new, name)]:
        del found.entries[name]
        rows = [row for row in found.imported if row["name"] == name]
        found.imported = [row for row in found.imported if row["name"] != name]
        for row in rows:
            found.leave(row["card"], row["card_version"], f"{name} is easily taken for {other}, which is there already")


def _present(name: str, there: Iterable[str]) -> bool:
    """Whether a name, or any name of a group (`group/`), is there."""
    return any(_means(name, other) for other in there)


def _means(name: str, other: str) -> bool:
    """Whether a name, or a group (`group/`), is that of an entry."""
    return other == name or (name.endswith("/") and other.startswith(name))


def write(found: Imported, out: Path) -> None:
    """Write what is new: into a folder that is not there yet whole or not at all, else one entry after the other, each whole.

    Raises:
        DiskError: it can't be written.
    """
    with contextlib.nullcontext(out) if out.is_dir() and any(out.iterdir()) else appearing(out) as folder:
        try:
            if found.similar:
                meta = read_meta(folder)
                similar = [*meta.get("similar", []), *map(list, found.similar)]
                write_whole(folder / META, dump({**meta, "similar": similar}))
            for name, document in sorted(found.entries.items()):
                write_whole(folder / f"{name}.json", dump(document))
        except OSError as error:
            raise DiskError(f"can't write {error.filename or folder}", cause=error.strerror) from None
