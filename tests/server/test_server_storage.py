"""Commits that never change: ids, branches, crashes, damage; git is the oracle for object ids."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hubcli.errors import HubcliError, IntegrityError
from hubcli.server import disk, import_folder
from hubcli.server.faults import RepoMissing, RevisionMissing
from hubcli.server.names import check_path, check_ref_name, check_repo_id
from hubcli.server.objects import Commit, folder_oids
from hubcli.server.repos import RepoStore
from tests.server.served import FIRST, SECOND, WEIGHTS, content, stored, write_tree

pytestmark = pytest.mark.usefixtures("sources")


def test_the_same_files_give_no_new_commit(hub: Path, tmp_path: Path) -> None:
    first = import_folder(hub, "a/b", tmp_path / "one", tag="v1")
    before = stored(hub)
    assert import_folder(hub, "a/b", tmp_path / "one", tag="v1", message="again") == first
    assert stored(hub) == before


def test_every_commit_stays_as_it_was(hub: Path, tmp_path: Path) -> None:
    ids = [import_folder(hub, "a/b", tmp_path / name) for name in ("one", "two", "one")]
    repo = RepoStore(hub).repo("model", "a/b")
    assert len(set(ids)) == 3
    assert [content(repo, one) for one in ids] == [FIRST, SECOND, FIRST]
    assert [one.id for one in repo.history(repo.resolve("main"))] == ids[::-1]
    assert repo.resolve("main").id == ids[-1]


def test_a_commit_id_is_a_function_of_its_content(hub: Path, tmp_path: Path) -> None:
    when = datetime(2026, 1, 2, tzinfo=UTC)
    first = import_folder(hub, "a/b", tmp_path / "one", date=when)
    assert import_folder(hub, "c/d", tmp_path / "one", date=when, message="Import a/b") == first
    assert import_folder(hub, "e/f", tmp_path / "one", date=when, message="other") != first


def test_a_file_that_is_gone_from_the_folder_is_gone_from_the_commit(hub: Path, tmp_path: Path) -> None:
    import_folder(hub, "a/b", tmp_path / "two")
    (tmp_path / "two" / WEIGHTS).unlink()
    import_folder(hub, "a/b", tmp_path / "two")
    assert WEIGHTS not in RepoStore(hub).repo("model", "a/b").resolve("main").files


def test_a_branch_starts_from_main_and_leaves_it(hub: Path, tmp_path: Path) -> None:
    main = import_folder(hub, "a/b", tmp_path / "one")
    branch = import_folder(hub, "a/b", tmp_path / "two", revision="feature/x")
    repo = RepoStore(hub).repo("model", "a/b")
    assert (repo.resolve("main").id, repo.resolve("feature/x").id, repo.resolve("feature/x").parent) == (
        main,
        branch,
        main,
    )
    assert import_folder(hub, "a/b", tmp_path / "one", revision="same") == main


def test_object_ids_are_gits(hub: Path, tmp_path: Path) -> None:
    files = {"b.txt": b"1", "b/c.txt": b"2", "b-c/d/e.txt": b"", "ü.md": b"3\n", "a.txt": b"4"}
    source = write_tree(tmp_path / "git", files)
    import_folder(hub, "a/b", source)
    entries = RepoStore(hub).repo("model", "a/b").resolve("main").files

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=source, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    git("add", ".")
    root = git("write-tree").strip()
    listed = {}
    for line in git("-c", "core.quotepath=off", "ls-tree", "-r", "-t", root).splitlines():
        facts, _, path = line.partition("\t")
        listed[path] = facts.split()[2]
    assert {**{path: entry.oid for path, entry in entries.items()}, **folder_oids(entries)} == {**listed, "": root}


@pytest.mark.parametrize("step", range(1, 12))
def test_a_crash_leaves_the_old_state_or_the_new(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Stop at each rename and each sync of an import; what is read afterwards is whole, and the next import ends well."""
    first = import_folder(hub, "a/b", tmp_path / "one")

    class Crash(BaseException):
        pass

    steps = 0

    def counted(real: object) -> object:
        def call(*arguments: object) -> object:
            nonlocal steps
            steps += 1
            if steps == step:
                raise Crash
            return real(*arguments)  # type: ignore[operator]

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", counted(Path.replace))
        patch.setattr(disk, "sync_folder", counted(disk.sync_folder))
        try:
            import_folder(hub, "a/b", tmp_path / "two", tag="v2")
        except Crash:
            assert steps == step
        else:
            assert steps < step
    repo = RepoStore(hub).repo("model", "a/b")
    assert content(repo, "main") in (FIRST, SECOND)
    assert content(repo, first) == FIRST
    second = import_folder(hub, "a/b", tmp_path / "two", tag="v2")
    assert content(repo, "v2") == content(repo, second) == SECOND
    assert not list((hub / ".hub").rglob(".tmp-*"))


def test_order_of_writing(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob before the commit that names it, a commit before the ref that names it; each synced before its rename."""
    events: list[str] = []
    fsync, rename = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("sync"), fsync(handle))[1])
    monkeypatch.setattr(
        Path,
        "replace",
        lambda self, to: (events.append(Path(to).parent.name + "/" + Path(to).name), rename(self, to))[1],
    )
    import_folder(hub, "a/b", write_tree(tmp_path / "small", {"a.txt": b"1"}))
    renames = [one for one in events if one != "sync"]
    assert [one.split("/")[0] for one in renames] == ["blobs", "a--b", "commits", "a--b"]
    assert renames[-1] == "a--b/refs.json"
    assert events == [event for one in renames for event in ("sync", one, "sync")]


def test_imports_at_once_lose_nothing(hub: Path, tmp_path: Path) -> None:
    import_folder(hub, "a/b", tmp_path / "one")
    sources = [write_tree(tmp_path / f"source{number}", {"n.txt": b"%d" % number}) for number in range(8)]
    threads = [
        threading.Thread(target=import_folder, args=(hub, "a/b", source), kwargs={"tag": f"t{number}"})
        for number, source in enumerate(sources)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    repo = RepoStore(hub).repo("model", "a/b")
    assert len(list(repo.history(repo.resolve("main")))) == 9
    assert {tag: content(repo, tag)["n.txt"] for tag in repo.refs().tags} == {
        f"t{number}": b"%d" % number for number in range(8)
    }


def commit_file(hub: Path) -> Path:
    return next((hub / ".hub/models/a--b/commits").iterdir())


@pytest.mark.parametrize("change", ["edit", "not json", "other format", "list"])
def test_a_damaged_commit_is_noticed(hub: Path, tmp_path: Path, change: str) -> None:
    import_folder(hub, "a/b", tmp_path / "one")
    whole = json.loads(commit_file(hub).read_text())
    document = json.loads(json.dumps(whole))
    document["files"]["README.md"]["sha256"] = "0" * 64
    texts = {
        "edit": json.dumps(document),
        "not json": "{",
        "other format": json.dumps({**whole, "v": 2}),
        "list": "[]",
    }
    commit_file(hub).write_text(texts[change])
    with pytest.raises(IntegrityError):
        RepoStore(hub).repo("model", "a/b").resolve("main")


def test_a_commit_reads_back_as_it_was_written(hub: Path, tmp_path: Path) -> None:
    import_folder(hub, "a/b", tmp_path / "two", message="title\nand more")
    commit = Commit.from_json(json.loads(commit_file(hub).read_text()))
    assert commit == RepoStore(hub).repo("model", "a/b").resolve("main")
    assert commit.to_json() == json.loads(commit_file(hub).read_text())
    assert (commit.title, commit.message) == ("title", "and more")


def test_ids_are_exact_on_a_disk_that_ignores_case(hub: Path, tmp_path: Path) -> None:
    import_folder(hub, "a/b", tmp_path / "one")
    (hub / ".hub/models/a--b").rename(hub / ".hub/models/A--B")
    with pytest.raises(RepoMissing):
        RepoStore(hub).repo("model", "A/B")


def test_another_repos_commit_is_not_this_repos(hub: Path, tmp_path: Path) -> None:
    commit = import_folder(hub, "a/secret", tmp_path / "two", private=True)
    import_folder(hub, "a/open", tmp_path / "one")
    with pytest.raises(RevisionMissing):
        RepoStore(hub).repo("model", "a/open").resolve(commit)


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (check_repo_id, ["gpt2", "a/b", "A.b_c-d/E1", "_x/y_", "0/1"]),
        (check_ref_name, ["main", "v1.0.0", "feature/x", "1.0+build", "a@b", "_x"]),
        (check_path, ["a", "a/b.txt", ".gitattributes", "ü n/c d.txt", "a..b", "...", ".github/x"]),
    ],
)
def test_good_names(check: object, good: list[str]) -> None:
    for name in good:
        assert check(name) == name  # type: ignore[operator]


def test_errors_are_hubclis(hub: Path) -> None:
    for bad in ("../x", "a\nb"):
        for check in (check_repo_id, check_ref_name, check_path):
            with pytest.raises(HubcliError) as caught:
                check(bad)
            assert (caught.value.id, caught.value.exit_code) == ("E_USAGE", 2)
