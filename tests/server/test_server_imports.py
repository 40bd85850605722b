"""What an import takes from a folder, and what it refuses: links, pipes, names, files that change."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hubcli.errors import ContentError, DiskError, NotFoundError, PolicyError
from hubcli.server import disk, import_folder
from hubcli.server.faults import BadRequestFault, RepoMissing
from hubcli.server.importer import snapshot_plain
from hubcli.server.repos import RepoStore
from tests.server.served import FIRST, content, stored, write_tree

pytestmark = pytest.mark.usefixtures("sources")


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


@pytest.mark.parametrize("name", [".git/config", "a/.git", "a/.cache/x", ".Cache/x", ".private", ".DS_Store", ".hub/x"])
def test_a_link_publishes_nothing_that_is_left_out(hub: Path, tmp_path: Path, name: str) -> None:
    """Credentials lie there: a clone's `.git/config` may hold the token of its remote."""
    one = write_tree(tmp_path / "one", {name: b"token of a remote"})
    (one / "notes.txt").symlink_to(name)
    write_tree(hub / "acme/open", {"notes.txt": b"mine"})
    shutil.copytree(one, hub / "acme/leaky", symlinks=True)
    with pytest.raises(PolicyError, match="found a link to"):
        import_folder(hub, "a/b", one)
    assert [skipped.path.name for skipped in snapshot_plain(RepoStore(hub))] == ["leaky"]
    assert [repo.id for repo in RepoStore(hub).repos("model")] == ["acme/open"]


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
