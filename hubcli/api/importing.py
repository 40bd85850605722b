"""index import: entries from another project's index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hubcli.errors import UsageError

Json = dict[str, Any]
SOURCES = ("adapterhub",)


def index_import(source: str, folder: str | Path, out: str | Path, *, dry_run: bool = False) -> Json:
    """List what another project's index lists in an index folder (schemas/cli/index-import); the same input, the same bytes.

    What can't be an entry here is in `left_out` with its reason. Of what `out` has already nothing changes.

    Args:
        source: "adapterhub": a checkout of AdapterHub's index of cards.
        folder: the checkout, or its `adapters/`.
        out: the index folder: a new one, or one that entries are added to.

    Raises:
        UsageError: another source, or `out` is no folder.
        NotFoundError: no card there. EntryError: `_index.json` of `out` can't be read. DiskError: it can't be written.
    """
    from hubcli.index.importing.folder import import_cards, write

    if source not in SOURCES:
        raise UsageError(f"source: expected one of {', '.join(SOURCES)}, found {source!a}")
    found = import_cards(Path(folder), Path(out))
    if not dry_run and (found.entries or found.similar):
        write(found, Path(out))
    return {
        "out": str(out),
        "entries": len({row["name"] for row in found.imported}),
        "written": len(found.entries),
        "imported": found.imported,
        "left_out": found.left_out,
        "notes": [{"note": note, "cards": [card for card in cards if card]} for note, cards in found.notes.items()],
    }
