"""Servers killed with SIGKILL at every step of a change: afterwards the repo is whole, and trying again succeeds."""

from __future__ import annotations

import contextlib
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from hubcli.server import Limits
from hubcli.server.crash import POINTS
from hubcli.server.repos import RepoStore
from tests.server.served import content
from tests.server.serving import TOKEN, serving
from tests.support.hub_server import LiveHub

ID = "acme/demo"
WEIGHTS = random.Random(0).randbytes(3 << 20)
BEFORE = {"keep.txt": b"keep", "old.txt": b"old"}
AFTER = {"keep.txt": b"keep", "adapter_model.safetensors": WEIGHTS, "new.txt": b"new"}

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_xet")]


@pytest.fixture
def without_xet(monkeypatch: pytest.MonkeyPatch, online: None) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


def adds(files: dict[str, bytes]) -> list[Any]:
    return [CommitOperationAdd(path, data) for path, data in files.items()]


def push(api: HfApi, **options: Any) -> Any:
    operations = [*adds({path: AFTER[path] for path in AFTER if path not in BEFORE}), CommitOperationDelete("old.txt")]
    return api.create_commit(ID, operations, commit_message="all at once", **options)


def begun(folder: Path) -> str:
    """A repo with one push, and the id of its newest commit."""
    with alive(folder) as api:
        api.create_repo(ID)
        return str(api.create_commit(ID, adds(BEFORE), commit_message="before").oid)


@contextlib.contextmanager
def alive(folder: Path, **limits: int) -> Iterator[HfApi]:
    """A server that nobody kills: in this process, to save time."""
    with LiveHub(folder, token=TOKEN, limits=Limits(**limits)) as hub:
        yield HfApi(endpoint=hub.url, token=TOKEN)


def state(folder: Path, revision: str = "main") -> dict[str, bytes]:
    """The files on disk, all commits of the history read and their ids checked on the way."""
    repo = RepoStore(folder).repo("model", ID)
    for commit in repo.history(repo.resolve(revision)):
        content(repo, commit.id)
    return {path: data for path, data in content(repo, revision).items() if path != ".gitattributes"}


def killed(folder: Path, fault: str, change: Callable[[HfApi], Any], **options: Any) -> None:
    with serving(folder, fault=fault, **options) as server:
        with pytest.raises(Exception, match=r"(?i)disconnect|reset|refused|closed|Error while uploading|EOF"):
            change(server.api)
        assert server.died() == -signal.SIGKILL


OF_COMMIT = ["each-mib", "each-mib:3", "before-blob", "after-blob", "before-blob:2", "before-commit", "after-commit", "before-refs", "after-refs"]  # fmt: skip


@pytest.mark.parametrize("point", OF_COMMIT)
def test_a_commit_is_there_or_not(tmp_path: Path, point: str) -> None:
    before = begun(tmp_path)
    killed(tmp_path, point, push)
    done = point == "after-refs"
    assert state(tmp_path) == (AFTER if done else BEFORE)
    with alive(tmp_path) as api:
        assert (api.model_info(ID).sha == before) is not done
        if done:  # as the client is told: somebody, here itself, has committed since
            with pytest.raises(Exception, match="412"):
                push(api, parent_commit=before)
        else:
            push(api, parent_commit=before)
        assert len(api.list_repo_commits(ID)) == 3
    assert state(tmp_path) == AFTER


@pytest.mark.parametrize("point", ["each-mib", "each-mib:3", "before-blob", "after-blob"])
def test_an_lfs_object_is_there_or_not(tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = begun(tmp_path)
    monkeypatch.setattr("huggingface_hub.lfs.http_backoff", once)
    killed(tmp_path, point, push, lfs_above=1000)
    assert state(tmp_path) == BEFORE
    whole = [path for path in (tmp_path / ".hub/blobs").iterdir() if path.stat().st_size == len(WEIGHTS)]
    assert len(whole) == (point == "after-blob")
    with alive(tmp_path, lfs_above=1000) as api:
        push(api, parent_commit=before)
    assert state(tmp_path) == AFTER


def once(method: str, url: str, **options: Any) -> Any:
    """One request, where the client would try a dead server for half a minute."""
    from huggingface_hub.utils import get_session

    content = {"content": options.pop("data")} if "data" in options else {}
    return get_session().request(method, url, **content, **options)


@pytest.mark.parametrize("point", ["before-commit", "after-commit", "before-discussion", "after-discussion"])
def test_a_pull_request_is_there_or_not(tmp_path: Path, point: str) -> None:
    before = begun(tmp_path)
    killed(tmp_path, point, lambda api: push(api, create_pr=True))
    assert state(tmp_path) == BEFORE
    done = point == "after-discussion"
    with alive(tmp_path) as api:
        assert len(list(api.get_repo_discussions(ID))) == done
        number = 1 if done else push(api, create_pr=True, parent_commit=before).pr_num
        assert number == 1
    assert (state(tmp_path), state(tmp_path, "refs/pr/1")) == (BEFORE, AFTER)


@pytest.mark.parametrize("point", ["before-commit", "after-commit", "before-refs", "after-refs", "before-discussion", "after-discussion"])  # fmt: skip
def test_a_merge_is_finished_by_the_next(tmp_path: Path, point: str) -> None:
    begun(tmp_path)
    with alive(tmp_path) as api:
        push(api, create_pr=True)
    killed(tmp_path, point, lambda api: api.merge_pull_request(ID, 1))
    assert state(tmp_path) in (BEFORE, AFTER)
    with alive(tmp_path) as api:
        if api.get_discussion_details(ID, 1).status != "merged":
            api.merge_pull_request(ID, 1)
        details = api.get_discussion_details(ID, 1)
        assert (details.status, details.merge_commit_oid) == ("merged", api.model_info(ID).sha)
        assert len(api.list_repo_commits(ID)) == 3
    assert state(tmp_path) == AFTER


@pytest.mark.parametrize("point", ["before-create", "before-commit", "before-refs", "after-refs", "after-create"])
def test_a_repo_is_made_or_not(tmp_path: Path, point: str) -> None:
    killed(tmp_path, point, lambda api: api.create_repo(ID))
    with alive(tmp_path) as api:
        assert api.repo_exists(ID) == (point == "after-create")
        assert [one.id for one in api.list_models()] == [ID] * (point == "after-create")
        api.create_repo(ID, exist_ok=True)
        assert api.list_repo_files(ID) == [".gitattributes"]
        assert len(api.list_repo_commits(ID)) == 1


@pytest.mark.parametrize("point", ["before-move", "after-move"])
def test_a_repo_is_moved_or_not(tmp_path: Path, point: str) -> None:
    head = begun(tmp_path)
    killed(tmp_path, point, lambda api: api.move_repo(ID, "other/name"))
    with alive(tmp_path) as api:
        moved = point == "after-move"
        assert api.model_info(ID).id == ("other/name" if moved else ID)
        if not moved:
            api.move_repo(ID, "other/name")
        for asked in ("other/name", ID):
            info = api.model_info(asked)
            assert (info.id, info.sha) == ("other/name", head)
        assert [one.id for one in api.list_models()] == ["other/name"]
        api.move_repo("other/name", ID)
        assert {api.model_info(asked).id for asked in ("other/name", ID)} == {ID}


@pytest.mark.parametrize("point", ["before-delete", "after-delete"])
def test_a_repo_is_deleted_or_not(tmp_path: Path, point: str) -> None:
    begun(tmp_path)
    killed(tmp_path, point, lambda api: api.delete_repo(ID))
    with alive(tmp_path) as api:
        assert api.repo_exists(ID) == (point == "before-delete")
        assert not list((tmp_path / ".hub/trash").glob("*"))
        api.delete_repo(ID, missing_ok=True)
        api.create_repo(ID)
        assert api.list_repo_files(ID) == [".gitattributes"]


def test_every_fault_point_is_tried() -> None:
    tried = Path(__file__).read_text()
    assert [point for point in POINTS if f'"{point}' not in tried] == []
