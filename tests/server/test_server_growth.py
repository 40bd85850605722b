"""What a hub takes of descriptors, memory and disk does not grow with what is sent to it."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubcli.server.commit_body import CommitBody
from hubcli.server.faults import TooLarge
from hubcli.server.limits import Limits
from hubcli.server.repos import RepoStore

ROOM = 100


def line(key: str, **value: str) -> bytes:
    return json.dumps({"key": key, "value": value}).encode() + b"\n"


def text_file(number: int, size: int = 1) -> bytes:
    content = base64.b64encode(b"%d" % (number % 10) * size).decode()
    return line("file", path=f"{number}.txt", content=content, encoding="base64")


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    """This process may open 40 files more than it has, or less; so many."""
    resource = pytest.importorskip("resource")
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 40, most))
    yield 40
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def test_a_commit_of_more_files_than_may_be_open(hub: Path, few_descriptors: int) -> None:
    body, count = CommitBody(RepoStore(hub), Limits(), 10**6), few_descriptors + 10
    try:
        body.feed(line("header", summary="many"))
        for number in range(count):
            body.feed(text_file(number))
        body.end()
        assert len(body.changes()) == count
        body.keep()
    finally:
        body.close()
    assert len(list((hub / ".hub/blobs").iterdir())) == 10
    assert not list((hub / ".hub/uploads").iterdir())


@pytest.mark.parametrize("sizes", [[ROOM], [60, 40], [50, 50, 0]], ids=str)
def test_the_files_of_a_commit_share_its_room(hub: Path, sizes: list[int]) -> None:
    body = CommitBody(RepoStore(hub), Limits(), ROOM)
    try:
        body.feed(line("header", summary="x"))
        for number, size in enumerate(sizes):
            body.feed(text_file(number, size))
        with pytest.raises(TooLarge, match="at most 0 bytes"):
            body.feed(text_file(9))
    finally:
        body.close()
