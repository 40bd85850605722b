"""Plain folders under a hub's root: they become commits at start, and nothing in them is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hubcli.errors import DiskError
from hubcli.server import import_folder, importer, whole
from hubcli.server.importer import snapshot_plain
from hubcli.server.objects import FileEntry, Settings, timestamp
from hubcli.server.repos import Repo, RepoStore
from tests.server.served import FIRST, SECOND, TEXT, content, stored, write_tree

pytestmark = pytest.mark.usefixtures("sources")


def test_plain_folders_become_commits(hub: Path) -> None:
    tree = {"acme/demo": FIRST, "models/org/two": SECOND, "datasets/acme/rows": {"a.csv": b"1\n"}}
    for place, files in tree.items():
        write_tree(hub / place, files)
    before = {path: path.stat().st_mtime_ns for path in hub.rglob("*") if path.is_file()}
    assert snapshot_plain(RepoStore(hub)) == []
    store = RepoStore(hub)
    assert content(store.repo("model", "acme/demo"), "main") == FIRST
    assert content(store.repo("model", "org/two"), "main") == SECOND
    assert content(store.repo("dataset", "acme/rows"), "main") == {"a.csv": b"1\n"}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [repo.settings.id for repo in store.repos("model")] == ["acme/demo", "org/two"]


def test_a_changed_plain_folder_gets_a_new_commit_and_keeps_the_old(hub: Path) -> None:
    plain = write_tree(hub / "acme/demo", FIRST)
    snapshot_plain(RepoStore(hub))
    first = RepoStore(hub).repo("model", "acme/demo").resolve("main").id
    snapshot_plain(RepoStore(hub))
    assert RepoStore(hub).repo("model", "acme/demo").resolve("main").id == first
    (plain / TEXT).write_bytes(b"edited\n")
    repo = RepoStore(hub).repo("model", "acme/demo")
    assert content(repo, "main") == FIRST, "an edit shows on restart, not before"
    snapshot_plain(RepoStore(hub))
    assert content(repo, "main") == {**FIRST, TEXT: b"edited\n"}
    assert content(repo, first) == FIRST
    shutil.rmtree(plain)
    snapshot_plain(RepoStore(hub))
    assert content(repo, first) == FIRST


def test_plain_folders_that_can_not_be_served_are_named_and_spare_the_others(hub: Path, tmp_path: Path) -> None:
    secret = write_tree(tmp_path / "elsewhere", {"key.txt": b"a secret of this machine"})
    write_tree(hub / "acme/good", FIRST)
    write_tree(hub / "acme/bad--name", FIRST)
    write_tree(hub / "acme", {"stray.txt": b"x"})
    (write_tree(hub / "acme/leaky", FIRST) / "key.txt").symlink_to(secret / "key.txt")
    (hub / "acme/linked").symlink_to(secret)
    (hub / "org").symlink_to(tmp_path / "one" / "sub")
    (hub / "acme/empty").mkdir()
    import_folder(hub, "acme/taken", tmp_path / "one")
    write_tree(hub / "acme/taken", SECOND)
    skipped = {one.path.relative_to(hub).as_posix() for one in snapshot_plain(RepoStore(hub))}
    assert skipped == {
        "acme/bad--name",
        "acme/stray.txt",
        "acme/leaky",
        "acme/linked",
        "acme/empty",
        "acme/taken",
        f"org/{Path(TEXT).name}",
    }
    store = RepoStore(hub)
    assert [repo.settings.id for repo in store.repos("model")] == ["acme/good", "acme/taken"]
    assert content(store.repo("model", "acme/taken"), "main") == FIRST
    assert b"a secret of this machine" not in stored(hub).values()


def test_a_repo_that_was_pushed_while_its_folder_was_read_is_left_alone(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another server of the folder took the push; this one starts."""
    plain, real = write_tree(hub / "acme/demo", FIRST), importer.take_in

    def slow(store: RepoStore, source: Path) -> dict[str, FileEntry]:
        whole.create(store, Settings("acme/demo", "model", timestamp(), "hub", private=True), "member")
        return real(store, source)

    monkeypatch.setattr(importer, "take_in", slow)
    assert [one.path for one in snapshot_plain(RepoStore(hub))] == [plain]
    repo = RepoStore(hub).repo("model", "acme/demo")
    assert content(repo, "main").keys() == {".gitattributes"}
    assert (repo.settings.origin, repo.settings.private) == ("hub", True)


def test_a_folder_takes_the_id_that_a_pushed_repo_had(hub: Path) -> None:
    store = RepoStore(hub)
    whole.create(store, Settings("acme/demo", "model", timestamp(), "hub"), "member")
    whole.move(store.repo("model", "acme/demo"), "acme/moved")
    write_tree(hub / "acme/demo", FIRST)
    assert snapshot_plain(store) == []
    assert content(store.repo("model", "acme/demo"), "main") == FIRST
    assert content(store.repo("model", "acme/moved"), "main").keys() == {".gitattributes"}


def test_marks_close_a_plain_repo_at_once_and_never_open_one(hub: Path) -> None:
    plain = write_tree(hub / "acme/demo", FIRST)
    snapshot_plain(RepoStore(hub))
    (plain / ".private").touch()
    (plain / "broken").symlink_to("/nowhere")
    assert len(snapshot_plain(RepoStore(hub))) == 1
    assert RepoStore(hub).repo("model", "acme/demo").settings.private
    (plain / ".private").unlink()
    (plain / "broken").unlink()
    snapshot_plain(RepoStore(hub))
    assert RepoStore(hub).repo("model", "acme/demo").settings.private
    (write_tree(hub / "acme/new", FIRST) / ".gated").touch()
    snapshot_plain(RepoStore(hub))
    assert RepoStore(hub).repo("model", "acme/new").settings.gated


def test_a_hub_that_can_not_be_written_serves_what_it_has(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(hub / "acme/demo", FIRST)
    snapshot_plain(RepoStore(hub))

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", denied)
    with monkeypatch.context() as patch:
        patch.setattr(Repo, "locked", denied)
        assert snapshot_plain(RepoStore(hub)) == []
    with pytest.raises(DiskError, match="Permission denied") as caught:
        import_folder(hub, "a/b", tmp_path / "two")
    assert "writable" in str(caught.value.hint)
