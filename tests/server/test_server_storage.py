"""Commits that never change: importing, plain folders, links, crashes; git is the oracle for object ids."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hubcli.errors import ContentError, DiskError, HubcliError, IntegrityError, NotFoundError, PolicyError
from hubcli.server import disk, import_folder
from hubcli.server.faults import BadRequestFault, RepoMissing, RevisionMissing
from hubcli.server.importer import snapshot_plain
from hubcli.server.names import check_path, check_ref_name, check_repo_id
from hubcli.server.objects import Commit, folder_oids
from hubcli.server.repos import Repo, RepoStore
from tests.server.served import FIRST, SECOND, TEXT, WEIGHTS, read_tree, write_tree


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    (tmp_path / "hub").mkdir()
    return tmp_path / "hub"


@pytest.fixture(autouse=True)
def made(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", FIRST)
    write_tree(tmp_path / "two", SECOND)


def stored(hub: Path) -> dict[str, bytes]:
    return {name: content for name, content in read_tree(hub / ".hub").items() if not name.endswith(".lock")}


def content(repo: Repo, revision: str) -> dict[str, bytes]:
    commit = repo.resolve(revision)
    return {path: repo.blob(commit, path)[1].read_bytes() for path in commit.files}


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


def test_what_an_import_refuses(hub: Path, tmp_path: Path) -> None:
    (tmp_path / "hollow" / "deep").mkdir(parents=True)
    one, two = tmp_path / "one", tmp_path / "two"
    with pytest.raises(BadRequestFault, match="first commit"):
        import_folder(hub, "a/b", one, revision="dev")
    import_folder(hub, "a/b", one, tag="v1")
    for options, kind in [
        ({"tag": "v1"}, BadRequestFault),
        ({"tag": "main"}, BadRequestFault),
        ({"revision": "v1"}, BadRequestFault),
        ({"tag": "../x"}, BadRequestFault),
        ({"repo_type": "space"}, BadRequestFault),
    ]:
        with pytest.raises(kind):
            import_folder(hub, "a/b", two, **options)
    for repo_id, source, kind in [
        ("../b", one, BadRequestFault),
        ("a/tree", one, BadRequestFault),
        ("api/x", one, BadRequestFault),
        ("a/c", tmp_path / "none", NotFoundError),
        ("a/c", tmp_path / "hollow", NotFoundError),
    ]:
        with pytest.raises(kind):
            import_folder(hub, repo_id, source)
    with pytest.raises(NotFoundError):
        import_folder(tmp_path / "no hub", "a/c", one)
    assert RepoStore(hub).repo("model", "a/b").refs().tags.keys() == {"v1"}
    with pytest.raises(RepoMissing):
        RepoStore(hub).repo("model", "a/c")


def test_privacy_changes_only_when_it_is_asked_for(hub: Path, tmp_path: Path) -> None:
    def settings(**options: object) -> tuple[bool, bool]:
        import_folder(hub, "a/b", tmp_path / "one", **options)
        found = RepoStore(hub).repo("model", "a/b").settings
        return found.private, found.gated

    assert settings(private=True) == (True, False)
    assert settings() == (True, False)
    assert settings(gated=True) == (True, True)
    assert settings(private=False) == (False, True)
    (tmp_path / "one" / ".private").touch()
    assert settings() == (True, True)
    assert ".private" not in RepoStore(hub).repo("model", "a/b").resolve("main").files


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


@pytest.mark.parametrize(
    "link",
    [
        ("out.txt", "../outside.txt"),
        ("out", ".."),
        ("abs.txt", "/etc/hostname"),
        ("gone.txt", "nowhere"),
        ("me", "me"),
        ("dir", "sub"),
    ],
    ids=lambda link: link[0],
)
def test_links_that_lead_out_are_refused(hub: Path, tmp_path: Path, link: tuple[str, str]) -> None:
    (tmp_path / "outside.txt").write_text("a secret of this machine")
    (tmp_path / "one" / link[0]).symlink_to(link[1])
    with pytest.raises(PolicyError):
        import_folder(hub, "a/b", tmp_path / "one")
    assert not (hub / ".hub" / "models").exists()
    assert b"a secret of this machine" not in stored(hub).values()


def test_a_link_inside_the_folder_is_its_file(hub: Path, tmp_path: Path) -> None:
    (tmp_path / "one" / "copy.md").symlink_to("README.md")
    import_folder(hub, "a/b", tmp_path / "one")
    assert content(RepoStore(hub).repo("model", "a/b"), "main") == {**FIRST, "copy.md": FIRST["README.md"]}


def test_a_pipe_is_refused_and_not_waited_for(hub: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "one" / "pipe")
    with pytest.raises(PolicyError):
        import_folder(hub, "a/b", tmp_path / "one")


@pytest.mark.parametrize("name", [b"a\\b", b"a\nb", b"\xff\xfe", "\u202etxt".encode()], ids=repr)
def test_file_names_that_no_hub_has(hub: Path, tmp_path: Path, name: bytes) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path / "one") + b"/" + name))).write_bytes(b"x")
    with pytest.raises(BadRequestFault):
        import_folder(hub, "a/b", tmp_path / "one")


def test_a_file_that_changes_while_it_is_read(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = disk._digest

    def meddle(file: object, source: Path, copy: object = None) -> tuple[int, str, str]:
        found = digest(file, source, copy)  # type: ignore[arg-type]
        source.write_bytes(b"changed")
        return found

    monkeypatch.setattr(disk, "_digest", meddle)
    with pytest.raises(ContentError, match="changed"):
        import_folder(hub, "a/b", tmp_path / "one")
    assert not stored(hub)


def test_half_a_folder_is_not_imported_as_a_whole_one(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def denied(path: object) -> object:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DiskError, match="sub: Permission denied"):
        import_folder(hub, "a/b", tmp_path / "one")


def test_left_out_of_a_repo(hub: Path, tmp_path: Path) -> None:
    write_tree(
        tmp_path / "one",
        {".git/config": b"x", ".cache/huggingface/x": b"x", ".gitattributes": b"kept", "a/.DS_Store": b"x"},
    )
    import_folder(hub, "a/b", tmp_path / "one")
    assert content(RepoStore(hub).repo("model", "a/b"), "main") == {**FIRST, ".gitattributes": b"kept"}


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
