"""Many at once: committers with and without a parent commit, over two servers of one folder, and readers meanwhile."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from hubcli.errors import BusyError
from hubcli.server import disk, whole
from hubcli.server import repo as repo_module
from hubcli.server.disk import write_document
from hubcli.server.faults import RepoMissing
from hubcli.server.repo import Repo, Words
from hubcli.server.repos import RepoStore
from hubcli.server.writing import commit_edit
from tests.server.served import content, stored
from tests.server.serving import serving
from tests.support.hub_server import LiveHub

ID, TOKEN, MANY, ROUNDS = "acme/demo", "writes", 8, 3


@pytest.fixture
def apis(tmp_path: Path, online: None) -> Iterator[list[HfApi]]:
    """Clients of two servers of the same folder."""
    with LiveHub(tmp_path / "hub", token=TOKEN) as one, LiveHub(tmp_path / "hub", token=TOKEN) as two:
        found = [HfApi(endpoint=hub.url, token=TOKEN) for hub in (one, two)]
        found[0].create_repo(ID)
        yield found


def push(api: HfApi, number: int, parent: str | None, refused: int = 412) -> str:
    """A commit of two files that belong together, with content of its own."""
    files = [CommitOperationAdd(f"{half}/{number}.txt", f"{number}".encode()) for half in ("left", "right")]
    files.append(CommitOperationAdd("shared.txt", f"{number}".encode()))
    try:
        return str(api.create_commit(ID, files, commit_message=f"{number}", parent_commit=parent).oid)
    except HfHubHTTPError as error:
        assert error.response.status_code == refused, error
        return ""


def before_the_lock(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """What happens just before the next lock is taken."""
    real = FileLock.acquire

    def late(self: FileLock, *arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(FileLock, "acquire", real)
        happens()
        return real(self, *arguments, **options)

    monkeypatch.setattr(FileLock, "acquire", late)


def at_once(call: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(MANY) as pool:
        return list(pool.map(call, range(MANY)))


def test_of_those_who_name_the_parent_one_wins_a_round(apis: list[HfApi], tmp_path: Path) -> None:
    head = str(apis[0].model_info(ID).sha)
    for round_ in range(ROUNDS):
        parent = head
        done = at_once(lambda number: push(apis[number % 2], round_ * MANY + number, parent))  # noqa: B023
        (head,) = [commit for commit in done if commit]
        assert apis[1].model_info(ID).sha == head
    repo = RepoStore(tmp_path / "hub").repo("model", ID)
    history = list(repo.history(repo.resolve("main")))
    assert len(history) == ROUNDS + 1
    files = content(repo, head)
    winners = [commit.title for commit in history[:-1]]
    assert {path for path in files if "/" in path} == {f"{half}/{n}.txt" for half in ("left", "right") for n in winners}
    assert files["shared.txt"].decode() == winners[0]


def test_of_those_who_do_not_all_land(apis: list[HfApi], tmp_path: Path) -> None:
    done = at_once(lambda number: push(apis[number % 2], number, None))
    repo = RepoStore(tmp_path / "hub").repo("model", ID)
    history = [commit.id for commit in repo.history(repo.resolve("main"))]
    assert sorted(history[:-1]) == sorted(done) and len(set(done)) == MANY
    files = content(repo, "main")
    assert all(files[f"{half}/{n}.txt"] == f"{n}".encode() for half in ("left", "right") for n in range(MANY))


@pytest.mark.slow
def test_all_land_from_processes_of_their_own(tmp_path: Path, online: None) -> None:
    with serving(tmp_path / "hub") as one, serving(tmp_path / "hub") as two:
        one.api.create_repo(ID)
        done = at_once(lambda number: push((one, two)[number % 2].api, number, None))
        assert two.api.model_info(ID).sha in done
    repo = RepoStore(tmp_path / "hub").repo("model", ID)
    assert {commit.id for commit in repo.history(repo.resolve("main"))} > set(done) and len(set(done)) == MANY
    files = content(repo, "main")
    assert all(files[f"{half}/{n}.txt"] == f"{n}".encode() for half in ("left", "right") for n in range(MANY))


def test_a_reader_sees_whole_commits(apis: list[HfApi]) -> None:
    seen: list[tuple[set[str], set[str]]] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            files = apis[1].list_repo_files(ID)
            left, right = ({f.partition("/")[2] for f in files if f.startswith(half)} for half in ("left", "right"))
            seen.append((left, right))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        at_once(lambda number: push(apis[0], number, None))
    finally:
        stop.set()
        reader.join()
    assert len(seen) > 2 and all(left == right for left, right in seen)


def test_numbers_of_pull_requests_are_given_once(apis: list[HfApi]) -> None:
    def propose(number: int) -> int | None:
        files = [CommitOperationAdd(f"{number}.txt", b"x")]
        return apis[number % 2].create_commit(ID, files, commit_message="x", create_pr=True).pr_num

    assert sorted(str(number) for number in at_once(propose)) == [str(n + 1) for n in range(MANY)]


def test_of_those_who_make_one_repo_one_is_the_first(apis: list[HfApi]) -> None:
    def make(number: int) -> int:
        try:
            apis[number % 2].create_repo("acme/new")
        except HfHubHTTPError as error:
            return error.response.status_code
        return 200

    assert sorted(at_once(make)) == [200, *[409] * (MANY - 1)]


def test_a_repo_deleted_and_made_again_meanwhile_is_one_repo(apis: list[HfApi]) -> None:
    """Whoever waited for the lock of the repo that went must not write below the one that came."""

    def change(number: int) -> None:
        try:
            if number % 4 == 0:
                apis[number % 2].delete_repo(ID, missing_ok=True)
            elif number % 4 == 1:
                apis[number % 2].create_repo(ID, exist_ok=True)
            else:
                push(apis[number % 2], number, None, refused=404)
        except HfHubHTTPError as error:
            assert error.response.status_code == 404, error

    at_once(change)
    apis[0].create_repo(ID, exist_ok=True)
    push(apis[1], 99, None)
    assert len(apis[0].list_repo_commits(ID)) == len({c.commit_id for c in apis[1].list_repo_commits(ID)})
    assert "left/99.txt" in apis[0].list_repo_files(ID)


def test_the_lock_of_a_repo_that_was_made_again_is_the_same(
    apis: list[HfApi], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repo is deleted and made again just before somebody gets its lock: whoever comes next waits for that one."""
    repo = RepoStore(tmp_path / "hub").repo("model", ID)

    def meanwhile() -> None:
        apis[0].delete_repo(ID)
        apis[0].create_repo(ID)

    before_the_lock(monkeypatch, meanwhile)
    monkeypatch.setattr(disk, "SECONDS_TO_WAIT", 0)
    again = RepoStore(tmp_path / "hub").repo("model", ID)
    with repo.locked(), pytest.raises(BusyError), again.locked():
        pass


def test_the_parent_is_looked_at_under_the_lock(
    apis: list[HfApi], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody commits just before this one gets the lock."""
    repo = RepoStore(tmp_path / "hub").repo("model", ID)
    head = repo.resolve("main")
    entry = head.files[".gitattributes"]
    real = repo_module.Repo.locked

    def late(self: Any, **options: Any) -> Any:
        monkeypatch.setattr(repo_module.Repo, "locked", real)
        commit_edit(repo, "main", lambda before: {**before.files, "other.txt": entry}, Words("in between"))
        return real(self, **options)

    monkeypatch.setattr(repo_module.Repo, "locked", late)
    with pytest.raises(HfHubHTTPError, match=r"A commit has happened since.*expected .*found"):
        apis[0].delete_file(".gitattributes", ID, parent_commit=head.id)
    assert set(repo.resolve("main").files) == {".gitattributes", "other.txt"}


def test_a_move_keeps_what_was_set_while_it_waited(
    apis: list[HfApi], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody closes the repo just before the move gets the lock: it must not be open under its new id."""
    real = repo_module.Repo.locked

    def late(self: Any, **options: Any) -> Any:
        monkeypatch.setattr(repo_module.Repo, "locked", real)
        apis[0].update_repo_settings(ID, private=True, gated="manual")
        return real(self, **options)

    monkeypatch.setattr(repo_module.Repo, "locked", late)
    apis[1].move_repo(ID, "acme/moved")
    found = RepoStore(tmp_path / "hub").repo("model", "acme/moved").settings
    assert (found.private, found.gated) == (True, "manual")


CHANGES: dict[str, Callable[[HfApi], Any]] = {
    "open": lambda api: api.create_pull_request(ID, title="x", description="x"),
    "propose": lambda api: api.upload_file(
        path_or_fileobj=b"x", path_in_repo="x", repo_id=ID, create_pr=True, commit_message="x"
    ),
    "comment": lambda api: api.comment_discussion(ID, 1, comment="x"),
    "rename": lambda api: api.rename_discussion(ID, 1, new_title="x"),
    "close": lambda api: api.change_discussion_status(ID, 1, "closed"),
    "merge": lambda api: api.merge_pull_request(ID, 1),
    "tag": lambda api: api.create_tag(ID, tag="v1"),
    "settings": lambda api: api.update_repo_settings(ID, private=True),
    "delete": lambda api: api.delete_repo(ID),
    "move": lambda api: api.move_repo(ID, "acme/b"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_repo_that_follows_a_folder_by_the_time_it_is_changed(
    apis: list[HfApi], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """It is deleted, and a server that starts finds a folder of its id, just before the change gets the lock."""
    CHANGES["propose"](apis[0])
    repo = RepoStore(tmp_path / "hub").repo("model", ID)
    real = repo_module.Repo.locked

    def late(self: Any, **options: Any) -> Any:
        monkeypatch.setattr(repo_module.Repo, "locked", real)
        write_document(repo.path / "repo.json", replace(repo.settings, origin="plain").to_json())
        return real(self, **options)

    before = stored(tmp_path / "hub")
    monkeypatch.setattr(repo_module.Repo, "locked", late)
    with pytest.raises(HfHubHTTPError, match="follows a folder"):
        CHANGES[change](apis[1])
    after = stored(tmp_path / "hub")
    assert {name for name in before | after if before.get(name) != after.get(name)} <= {
        "models/acme--demo/repo.json",
        *(name for name in after if name.startswith("blobs/")),
    }
    assert not repo.settings.private


@pytest.mark.parametrize("new", [False, True])
def test_a_repo_that_goes_before_its_lock_is_taken(
    apis: list[HfApi], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: bool
) -> None:
    """It is gone for who changes it, and made by who makes it; no folder is left where it was."""
    repo = RepoStore(tmp_path / "hub").repo("model", ID)
    before_the_lock(monkeypatch, lambda: apis[0].delete_repo(ID))
    with contextlib.nullcontext() if new else pytest.raises(RepoMissing), repo.locked(new=new):
        assert new
    assert repo.path.exists() == new


def test_a_repo_that_is_held_for_too_long_is_busy(
    apis: list[HfApi], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = RepoStore(tmp_path / "hub").repo("model", ID)
    with repo.locked():
        monkeypatch.setattr(disk, "SECONDS_TO_WAIT", 0)
        with pytest.raises(HfHubHTTPError, match="another change of this repo goes on") as refused:
            apis[0].create_tag(ID, tag="v1")
    assert refused.value.response.status_code == 503
    apis[0].create_tag(ID, tag="v1")


def test_who_makes_a_repo_is_told_its_address_also_if_it_goes_at_once(
    apis: list[HfApi], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = whole.create

    def make(*arguments: Any) -> Repo:
        made = real(*arguments)
        whole.delete(made)
        return made

    monkeypatch.setattr(whole, "create", make)
    assert apis[0].create_repo("acme/short").repo_id == "acme/short"
