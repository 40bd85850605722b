"""A commit's body read in pieces: in little memory, and the same wherever it is cut."""

from __future__ import annotations

import base64
import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from hubcli.server.ndjson import Base64, Lines
from hubcli.server.repos import RepoStore
from hubcli.server.uploads import Incoming
from tests.server.test_server_hostile_writes import file, lines

MB = 1_000_000


def test_a_commit_is_taken_in_with_little_memory(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    store, size = RepoStore(tmp_path / "hub"), 48 * MB
    got: list[Any] = []
    reader = Lines(lambda: Incoming(store, "w", size), lambda _, received: got.append(received))
    piece, line = base64.b64encode(bytes(48_000)), json.dumps({"key": "file", "value": {"content": "@", "path": "w"}})
    before, _, after = line.encode().partition(b"@")
    tracemalloc.start()
    reader.feed(before)
    for _ in range(size // 48_000):
        reader.feed(piece)
    reader.feed(after)
    reader.end()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (got[0].size, got[0].sha256) == (size, hashlib.sha256(bytes(size)).hexdigest())
    assert peak < 4 * MB
    got[0].drop()


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 64, 1000])
def test_where_the_body_is_cut_makes_no_difference(tmp_path: Path, step: int) -> None:
    (tmp_path / "hub").mkdir()
    store = RepoStore(tmp_path / "hub")
    data = bytes(range(256)) * 1200
    body = lines(file('q"uo\\te.txt', b"short"), file("long.bin", data), ("deletedFile", {"path": "ü\\"}))
    got: list[tuple[Any, Any]] = []
    reader = Lines(lambda: Incoming(store, "w", MB), lambda document, received: got.append((document, received)))
    for at in range(0, len(body), step):
        reader.feed(body[at : at + step])
    reader.end()
    expected = [json.loads(line) for line in body.splitlines()]
    long = got[2][1]
    assert (long.size, long.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    expected[2]["value"]["content"] = reader.stands_for
    assert ([document for document, _ in got], [bool(one) for _, one in got]) == (expected, [False, False, True, False])
    long.drop()


def test_base64_in_pieces_is_base64(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    store, data = RepoStore(tmp_path / "hub"), bytes(range(256))
    for length in (0, 1, 2, 3, 255, 256):
        text = base64.b64encode(data[:length])
        for step in (1, 3, 4, 5, 100):
            with Incoming(store, "w", 300) as received:
                decoder = Base64(received)
                for at in range(0, len(text), step):
                    decoder.write(text[at : at + step])
                decoder.end()
                assert received.sha256 == hashlib.sha256(data[:length]).hexdigest()
