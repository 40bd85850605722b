"""What a hub takes of descriptors, memory and disk does not grow with what is sent to it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from hubcli.errors import DiskError
from hubcli.server import contents as contents_module
from hubcli.server import create_app, disk, import_folder
from hubcli.server import sweep as sweep_module
from hubcli.server.commit_body import CommitBody
from hubcli.server.faults import BodyFault, TooLarge
from hubcli.server.limits import Limits
from hubcli.server.objects import LFS_SUFFIXES, Commit, FileEntry, Settings, timestamp
from hubcli.server.repo import Repo
from hubcli.server.repos import RepoStore

ID, TOKEN, ROOM, HOUR = "acme/demo", "writes", 100, 3600
ATTRIBUTES = sum(len(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n") for suffix in LFS_SUFFIXES)
REAL_TIME, REAL_COMMIT = time.time, Repo.commit


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


class Hub:
    """A hub of one repo, in this process; `when` is how many seconds ahead its clock is."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **limits: int):
        self.folder, self.monkeypatch, self.limits = folder, monkeypatch, Limits(**limits)
        self.start()

    def start(self, when: float = 0) -> None:
        for module in (contents_module, sweep_module):
            self.monkeypatch.setattr(f"{module.__name__}.time.time", lambda: REAL_TIME() + when)
        app = create_app(self.folder, TOKEN, limits=self.limits)
        self.client = TestClient(app, headers={"Authorization": f"Bearer {TOKEN}"})
        self.client.post("/api/repos/create", json={"name": ID})

    def blobs(self) -> set[str]:
        return {path.name for path in (self.folder / ".hub/blobs").iterdir()}

    def batch(self, *objects: bytes) -> Any:
        asked = [{"oid": sha256(data), "size": len(data)} for data in objects]
        return self.client.post(f"/{ID}.git/info/lfs/objects/batch", json={"operation": "upload", "objects": asked})

    def addresses(self, *objects: bytes) -> list[str]:
        return [one["actions"]["upload"]["href"] for one in self.batch(*objects).json()["objects"]]

    def send(self, data: bytes) -> int:
        (address,) = self.addresses(data)
        return int(self.client.put(address, content=data).status_code)

    def commit(self, data: bytes, path: str = "w.bin") -> int:
        operation = line("lfsFile", path=path, algo="sha256", oid=sha256(data))
        body = line("header", summary="x") + operation
        return int(self.client.post(f"/api/models/{ID}/commit/main", content=body).status_code)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


ONE, TWO = (bytes([number]) * 600 for number in range(2))


def test_what_was_sent_and_not_committed_counts(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Hub(hub, monkeypatch, max_file=1000, max_repo=ATTRIBUTES + 1000)
    first, second = served.addresses(ONE)[0], served.addresses(TWO)[0]
    assert [served.client.put(one, content=data).status_code for one, data in ((first, ONE), (second, TWO))] == [
        200,
        413,
    ]
    reply = served.batch(TWO)
    assert reply.status_code == 413 and "more than its" in reply.text
    assert served.batch(ONE).status_code == 200
    assert served.commit(ONE) == 200
    assert (served.batch(ONE).status_code, served.batch(TWO).status_code) == (200, 413)
    assert not list((hub / ".hub/models/acme--demo/pending").iterdir())


def test_an_object_that_did_not_come_does_not_count(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Hub(hub, monkeypatch, max_file=1000, max_repo=ATTRIBUTES + 1000)
    (first,) = served.addresses(ONE)
    assert served.client.put(first, content=TWO).status_code == 400
    assert served.send(TWO) == 200


def test_what_no_commit_names_is_removed_after_a_day(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Hub(hub, monkeypatch)
    named = served.blobs()
    assert [served.send(data) for data in (ONE, TWO)] == [200, 200] and served.commit(ONE) == 200
    served.start(when=23 * HOUR)
    assert served.blobs() == named | {sha256(ONE), sha256(TWO)}
    served.start(when=25 * HOUR)
    assert served.blobs() == named | {sha256(ONE)}
    assert not list((hub / ".hub/models/acme--demo/pending").iterdir())
    assert served.commit(TWO) == 400 and served.send(TWO) == 200 and served.commit(TWO) == 200
    served.client.request("DELETE", "/api/repos/delete", json={"name": ID})
    served.start(when=25 * HOUR)
    assert served.blobs() == named


def test_a_blob_that_is_named_in_between_stays(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody commits it after the commits were read, just before it is taken away."""
    served = Hub(hub, monkeypatch)
    assert [served.send(data) for data in (ONE, TWO)] == [200, 200]
    rename = Path.rename
    done: list[int] = []

    def late(self: Path, to: Path) -> Path:
        if self.parent.name == "blobs" and not done:
            done.append(served.commit(ONE if self.name == sha256(ONE) else TWO))
            os.utime(self, (REAL_TIME() + 25 * HOUR,) * 2)  # as the clock of the sweep has it
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", late)
    store = RepoStore(hub)
    monkeypatch.setattr(f"{sweep_module.__name__}.time.time", lambda: REAL_TIME() + 25 * HOUR)
    assert (sweep_module.sweep(store), done) == (1, [200])
    repo = store.repo("model", ID)
    named = {entry.sha256 for entry in repo.resolve("main").files.values()}
    assert len(named) == 2 and served.blobs() == named


def test_bytes_that_came_back_from_a_backup_are_young(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their repos may come after them; the time of change is the one they had."""
    served = Hub(hub, monkeypatch)
    served.send(ONE)
    os.utime(hub / ".hub/blobs" / sha256(ONE), (1, 1))
    served.start()
    assert sha256(ONE) in served.blobs()


def test_an_import_makes_sure_of_what_it_read_first(
    hub: Path, tmp_path: Path, sources: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk.Blobs, "claim", lambda *_: False)
    with pytest.raises(DiskError, match="gone again"):
        import_folder(hub, ID, tmp_path / "one")


def test_nothing_is_removed_where_a_commit_is_damaged(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Hub(hub, monkeypatch)
    served.send(ONE)
    before = served.blobs()
    next((hub / ".hub/models/acme--demo/commits").iterdir()).write_text("{")
    served.start(when=25 * HOUR)
    assert served.blobs() == before


def test_a_blob_that_is_gone_by_the_commit_is_asked_for_again(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was there when the line that names it was read."""
    served = Hub(hub, monkeypatch)
    served.send(ONE)
    body = CommitBody(RepoStore(hub), Limits(), ROOM)
    body.feed(line("header", summary="x") + line("lfsFile", path="w.bin", algo="sha256", oid=sha256(ONE)))
    body.end()
    served.start(when=25 * HOUR)
    with pytest.raises(BodyFault, match="upload it first"):
        body.keep()


def test_a_killed_sweep_is_taken_back(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Hub(hub, monkeypatch)
    (name,) = served.blobs()
    (hub / ".hub/aside").mkdir()
    (hub / ".hub/blobs" / name).rename(hub / ".hub/aside" / name)
    served.start()
    assert served.blobs() == {name}


def grown(hub: Path, commits: int) -> RepoStore:
    """A repo of this many commits, each with a file more."""
    store = RepoStore(hub)
    repo = store.create(Settings(ID, "model", timestamp(), "hub"))
    files = {}
    for number in range(commits):
        files[f"{number}.txt"] = FileEntry(number, f"{number:064x}", f"{number:040x}", lfs=False)
        repo.add_commit(files, title=f"{number}")
    return store


def test_the_contents_of_old_commits_are_not_read_again(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = grown(hub, 40).repo("model", ID)
    expected = {f"{number:064x}": number for number in range(40)}
    assert contents_module.contents(repo) == expected
    read: list[str] = []

    def commit(self: Repo, commit_id: str) -> Commit:
        read.append(commit_id)
        return REAL_COMMIT(self, commit_id)

    monkeypatch.setattr(Repo, "commit", commit)
    for count in (40, 41):
        files = {f"{count}.txt": FileEntry(1, f"{count:064x}", f"{count:040x}", lfs=False)}
        if count == 41:
            repo.add_commit(files, title="more")
            expected[f"{41:064x}"] = 1
        read.clear()
        assert contents_module.contents(RepoStore(hub).repo("model", ID)) == expected
        assert len(read) == count - 40


@pytest.mark.parametrize("damage", ["gone", "no JSON", "another format", "a commit that is gone"])
def test_contents_are_made_anew(hub: Path, damage: str) -> None:
    repo = grown(hub, 20).repo("model", ID)
    found = contents_module.contents(repo)
    index = repo.path / "contents.json"
    if damage == "gone":
        index.unlink()
    elif damage == "a commit that is gone":
        *_, oldest = repo.history(repo.resolve("main"))
        (repo.path / "commits" / f"{oldest.id}.json").unlink()
        index.write_text(index.read_text().replace('"sizes": {', f'"sizes": {{"{"f" * 64}": 1,'))
    else:
        index.write_text({"no JSON": "{", "another format": '{"v": 2, "commits": [], "sizes": {}}'}[damage])
    assert contents_module.contents(RepoStore(hub).repo("model", ID)) == found


def test_documents_are_kept_up_to_a_number_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_CACHED_BYTES", 100_000)
    documents = disk.Documents()
    parsed: list[Path] = []
    paths = [tmp_path / f"{number}.json" for number in range(20)]
    for path in paths:
        path.write_text(json.dumps({"name": path.name, "x": "x" * 20_000}))

    def parse(document: dict[str, Any]) -> None:
        parsed.append(tmp_path / document["name"])

    def read(path: Path) -> None:
        documents.read(path, parse)

    for path in [*paths, *paths[-3:], paths[0]]:
        read(path)
    assert parsed == [*paths, paths[0]]
    large = tmp_path / "large.json"
    large.write_text(json.dumps({"name": large.name, "x": "x" * 200_000}))
    for _ in range(2):
        read(large)
    assert parsed[-1:] == [large] and parsed.count(large) == 1
