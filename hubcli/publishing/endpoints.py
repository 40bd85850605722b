"""Which hub an index says its files are on, against the one that a release goes to."""

from __future__ import annotations

import json

from hubcli.config import DEFAULT_ENDPOINT
from hubcli.index.entries import dump
from hubcli.index.sources import META, parse_meta
from hubcli.publishing.place import Base, Place

WARNING = "warning: "


def hub_told(base: Base, place: Place, endpoint: str) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """`_index.json` where it has to be written, and what a person has to know: people fetch a release from the hub that the
    index names, else from their own. An index on a hub is read from the hub that its files are on.

    Raises:
        EntryError: `_index.json` can't be read.
    """
    meta = parse_meta(base.meta, f"{place.where}/{META}") if base.meta is not None else {}
    named = (meta.get("endpoint") or "").rstrip("/") or None
    if named == endpoint or (named is None and (endpoint == DEFAULT_ENDPOINT or place.kind == "hub")):
        return {}, ()
    if named is not None:
        told = (
            f"{place.where} says in {META} that its files are on {named}, and people would look for this release there"
        )
        return {}, (f"{WARNING}{told}: publish with HF_ENDPOINT={named}, or to another index",)
    if not base.names and base.meta is None and base.owners is None:
        return {META: dump({"endpoint": endpoint})}, (f"{META} is new: the files of this index are on {endpoint}",)
    told = f"{place.where} names no hub, and people without HF_ENDPOINT={endpoint} would look for this release on"
    line = f'"endpoint": {json.dumps(endpoint)}'
    return {}, (f"{WARNING}{told} {DEFAULT_ENDPOINT}: add {line} to its {META}",)
