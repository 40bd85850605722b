"""A process of its own for crash and race tests: `python -m tests.store.driver WHAT HOME SHELF ARGUMENT…`."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hubcli.plugins
from hubcli.errors import NotFoundError
from hubcli.hub.sources import Sources
from hubcli.installer import install_resolved
from hubcli.store import Store, locking
from tests.store.samples import Shelf, ToyPlugins, adapter

NAMES = ("test/one", "test/two", "other/one")


def install(store: Store, shelf: Shelf, name: str, version: str, root: str = "") -> None:
    resolved = adapter(shelf, name, version)
    if root:
        resolved = dataclasses.replace(resolved, file_roots=(root,))
    install_resolved(resolved, store, Sources())


def uninstall(store: Store, shelf: Shelf, name: str, version: str) -> None:
    item = store.get(name, version)
    if item:
        with store.lock(name), contextlib.suppress(NotFoundError):
            store.remove(item)


def verify(store: Store) -> None:
    for item in store.installed():
        with contextlib.suppress(NotFoundError):
            found = store.verify(item)
            assert found.ok, found
    assert not store.broken(), store.broken()


def race(store: Store, shelf: Shelf, seed: str, rounds: str) -> None:
    dice = random.Random(int(seed))
    for _ in range(int(rounds)):
        name, version = dice.choice(NAMES), dice.choice(("1.0.0", "1.1.0"))
        what = dice.choice(("install", "install", "uninstall", "verify", "prune"))
        if what == "install":
            install(store, shelf, name, version)
        elif what == "uninstall":
            uninstall(store, shelf, name, version)
        elif what == "verify":
            verify(store)
        else:
            store.prune(grace=0)


@contextlib.contextmanager
def no_lock(*_: Any, **__: Any) -> Iterator[None]:
    """A lock that lies: everyone gets it."""
    yield


def main(what: str, home: str, folder: str, *arguments: str) -> None:
    hubcli.plugins.plugins = ToyPlugins  # type: ignore[assignment,return-value]
    if what == "race-without-locks":
        locking.hold = no_lock
        what = "race"
    {"install": install, "uninstall": uninstall, "race": race}[what](Store(Path(home)), Shelf(Path(folder)), *arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
