"""A hub server and a mirror in a process of their own, so that their CPU time is nobody's; they count requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

REPO = "acme/bert-lora"


@dataclass(frozen=True)
class Servers:
    """What runs: URLs, and the commit under which the hub has the repository."""

    hub: str
    mirror: str
    commit: str
    _pipe: Connection

    def count(self) -> int:
        """Requests to both since the last call."""
        self._pipe.send("count")
        return int(self._pipe.recv())


@contextmanager
def serving(work: Path, repo: Path, mirrored: Path) -> Iterator[Servers]:
    """Serve the folder `repo` as REPO from a hub, and `mirrored` (files by sha256) from a static server, on loopback."""
    here, there = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_serve, args=(there, work, repo, mirrored), daemon=True)
    process.start()
    there.close()
    try:
        hub, mirror, commit = here.recv()
        yield Servers(hub, mirror, commit, here)
    finally:
        here.close()
        process.join()


def _serve(pipe: Connection, work: Path, repo: Path, mirrored: Path) -> None:
    from tests.support.hub_server import LiveHub
    from tests.support.static_server import serve

    with LiveHub(work / "hub") as hub, serve(mirrored) as mirror:
        pipe.send((hub.url, mirror.origin, hub.import_folder(REPO, repo)))
        while True:
            try:
                pipe.recv()
            except EOFError:
                return
            pipe.send(len(hub.log) + len(mirror.requests))
            hub.log.clear()
            mirror.requests.clear()
