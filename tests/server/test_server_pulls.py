"""Pull requests and discussions beyond the main road, on a dataset repo; and plain folders, moves, leftovers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError

from tests.server.served import FIRST, ask, stored, write_tree
from tests.support.hub_server import LiveHub

TOKEN, ID = "writes", "acme/index"
OF: dict[str, Any] = {"repo_id": ID, "repo_type": "dataset"}


@pytest.fixture
def hub(tmp_path: Path, online: None) -> Iterator[LiveHub]:
    with LiveHub(tmp_path / "hub", token=TOKEN, page_size=2) as hub:
        HfApi(endpoint=hub.url, token=TOKEN).create_repo(ID, repo_type="dataset")
        yield hub


@pytest.fixture
def api(hub: LiveHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=TOKEN)


def commit(api: HfApi, files: dict[str, str | None], **options: Any) -> Any:
    operations = [
        CommitOperationDelete(path) if text is None else CommitOperationAdd(path, text.encode())
        for path, text in files.items()
    ]
    return api.create_commit(operations=operations, commit_message="change", **OF, **options)


def texts(api: HfApi, revision: str = "main") -> dict[str, str]:
    folder = Path(api.snapshot_download(**OF, revision=revision, cache_dir=os.environ["HF_HUB_CACHE"]))
    return {p.name: p.read_text() for p in folder.rglob("*") if p.is_file() and p.name != ".gitattributes"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, online: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))


def refused(status: int, call: Any, words: str | None = None) -> None:
    with pytest.raises(HfHubHTTPError, match=words) as caught:
        call()
    assert caught.value.response.status_code == status


def test_what_main_changed_meanwhile_stays(api: HfApi) -> None:
    commit(api, {"a": "1", "b": "1", "c": "1"})
    commit(api, {"a": "2", "b": None, "new": "x"}, create_pr=True)
    commit(api, {"c": "3", "other": "y"})
    api.merge_pull_request(discussion_num=1, **OF)
    assert texts(api) == {"a": "2", "c": "3", "new": "x", "other": "y"}
    assert api.list_repo_commits(**OF)[0].title == "change (#1)"


def test_what_both_changed_is_a_conflict(api: HfApi) -> None:
    commit(api, {"a": "1", "b": "1"})
    commit(api, {"a": "2", "b": "2"}, create_pr=True)
    commit(api, {"a": "3", "b": "2"})
    assert api.get_discussion_details(discussion_num=1, **OF).conflicting_files == ["a"]
    refused(409, lambda: api.merge_pull_request(discussion_num=1, **OF), "main has changed a otherwise")
    assert texts(api) == {"a": "3", "b": "2"}
    commit(api, {"a": "1"}, revision="refs/pr/1")
    api.merge_pull_request(discussion_num=1, **OF)
    assert texts(api) == {"a": "3", "b": "2"}


def test_a_draft_becomes_a_pull_request(api: HfApi) -> None:
    draft = api.create_pull_request(title="t", description="d", **OF)
    assert (draft.status, draft.git_reference) == ("draft", "refs/pr/1")
    refused(409, lambda: api.merge_pull_request(discussion_num=1, **OF), "nothing to merge")
    refused(409, lambda: api.change_discussion_status(discussion_num=1, new_status="open", **OF), "no commit")
    commit(api, {"a": "1"}, revision="refs/pr/1", parent_commit=api.dataset_info(ID).sha)
    refused(412, lambda: commit(api, {"a": "2"}, revision="refs/pr/1", parent_commit=api.dataset_info(ID).sha))
    api.change_discussion_status(discussion_num=1, new_status="open", **OF)
    api.merge_pull_request(discussion_num=1, **OF)
    assert texts(api) == {"a": "1"}


def test_what_is_closed_takes_nothing(api: HfApi) -> None:
    commit(api, {"a": "1"}, create_pr=True)
    api.create_discussion(title="talk", **OF)
    api.change_discussion_status(discussion_num=1, new_status="closed", **OF)
    assert texts(api, "refs/pr/1") == {"a": "1"}
    refused(409, lambda: commit(api, {"b": "1"}, revision="refs/pr/1"), "closed")
    refused(409, lambda: api.merge_pull_request(discussion_num=1, **OF), "closed")
    refused(409, lambda: api.change_discussion_status(discussion_num=1, new_status="closed", **OF))
    refused(409, lambda: api.merge_pull_request(discussion_num=2, **OF), "no pull request")
    for number in ("2", "9", "x", "99999999999"):
        refused(404, lambda: commit(api, {"b": "1"}, revision=f"refs/pr/{number}"))  # noqa: B023
    for call in (api.merge_pull_request, api.get_discussion_details):
        refused(404, lambda: call(discussion_num=9, **OF), "no discussion 9")  # noqa: B023
    refused(400, lambda: commit(api, {"a": "2"}, revision="refs/pr/1", create_pr=True), "branch or a commit")


def test_a_pull_request_has_to_change_something(hub: LiveHub, api: HfApi) -> None:
    commit(api, {"a": "1"})
    body = b'{"key":"header","value":{"summary":"x"}}\n{"key":"file","value":{"content":"MQ==","path":"a"}}\n'
    path = f"/api/datasets/{ID}/commit/main"
    reply = ask(hub.url, "POST", f"{path}?create_pr=1", body=body, Authorization=f"Bearer {TOKEN}")
    assert (reply.status, b"has to change something" in reply.body) == (400, True)
    assert not list(api.get_repo_discussions(**OF))
    # a commit that changes nothing is the commit there is
    head = api.dataset_info(ID).sha
    reply = ask(hub.url, "POST", path, body=body, Authorization=f"Bearer {TOKEN}")
    assert (reply.status, str(head).encode() in reply.body, api.dataset_info(ID).sha) == (200, True, head)


@pytest.mark.parametrize("revision", ["v1", "nope", "refs/pr/1", "refs/pr/7", "refs/tags/v1", "0" * 40])
def test_where_no_commit_goes_nothing_is_stored(hub: LiveHub, api: HfApi, revision: str) -> None:
    commit(api, {"a": "1"}, create_pr=True)
    api.change_discussion_status(discussion_num=1, new_status="closed", **OF)
    api.create_tag(tag="v1", **OF)
    before = stored(hub.folder)
    with pytest.raises(HfHubHTTPError):
        commit(api, {"new": "bytes"}, revision=revision)
    body = b'{"key":"header","value":{"summary":"x"}}\n{"key":"file","value":{"content":"MTIz","path":"a"}}\n'
    path = f"/api/datasets/{ID}/commit/{revision.replace('/', '%2F')}"
    assert ask(hub.url, "POST", path, body=body, Authorization=f"Bearer {TOKEN}").status in (400, 404, 409)
    assert stored(hub.folder) == before


def test_the_list_comes_in_pages(api: HfApi) -> None:
    for number in range(5):
        api.create_discussion(title=f"{number}", **OF)
    assert [one.title for one in api.get_repo_discussions(**OF)] == ["4", "3", "2", "1", "0"]


@pytest.mark.parametrize("query", ["p=-1", "p=x", "type=x", "status=x", "sort=x"])
def test_a_list_that_can_t_be_given(hub: LiveHub, query: str) -> None:
    assert ask(hub.url, "GET", f"/api/datasets/{ID}/discussions?{query}").status == 400


def test_a_pull_request_is_read_like_any_revision(hub: LiveHub, api: HfApi) -> None:
    commit(api, {"a": "1"}, create_pr=True)
    for revision in ("refs/pr/1", "refs%2Fpr%2F1"):
        assert ask(hub.url, "GET", f"/datasets/{ID}/resolve/{revision}/a").body == b"1"
        for view in ("revision", "tree", "commits"):
            assert ask(hub.url, "GET", f"/api/datasets/{ID}/{view}/{revision}").status == 200
    for revision in ("refs/pr/2", "refs%2Fpr%2Fx", "refs%2Fpr%2F99999999999"):
        assert ask(hub.url, "GET", f"/datasets/{ID}/resolve/{revision}/a").headers["x-error-code"] == "RevisionNotFound"


def test_comments_are_shown_as_text(hub: LiveHub, api: HfApi) -> None:
    api.create_discussion(title="t", description="<script>&", **OF)
    (first,) = api.get_discussion_details(discussion_num=1, **OF).events
    assert (first.content, first.rendered) == ("<script>&", "<p>&lt;script&gt;&amp;</p>")  # type: ignore[attr-defined]
    refused(400, lambda: api.comment_discussion(discussion_num=1, comment=" ", **OF))
    refused(400, lambda: api.rename_discussion(discussion_num=1, new_title="a\nb", **OF))
    refused(501, lambda: api.edit_discussion_comment(discussion_num=1, comment_id=first.id, new_content="x", **OF))


def test_a_followed_folder_is_not_written(tmp_path: Path) -> None:
    write_tree(tmp_path / "plain/acme/demo", FIRST)
    with LiveHub(tmp_path / "plain", token=TOKEN) as hub:
        api = HfApi(endpoint=hub.url, token=TOKEN)
        for call in (
            lambda: api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="acme/demo"),
            lambda: api.create_tag("acme/demo", tag="v1"),
            lambda: api.create_discussion("acme/demo", title="t"),
            lambda: api.auth_check("acme/demo", write=True),
            lambda: api.update_repo_settings("acme/demo", private=True),
            lambda: api.move_repo("acme/demo", "acme/new"),
            lambda: api.delete_repo("acme/demo"),
        ):
            refused(403, call, "follows a folder of the served tree")
        refused(409, lambda: api.create_repo("acme/demo"))


def test_an_old_id_leads_to_the_repo_until_another_takes_it(hub: LiveHub, api: HfApi) -> None:
    head = commit(api, {"a": "1"}).oid
    api.move_repo(ID, "other/one", repo_type="dataset")
    api.move_repo("other/one", "other/two", repo_type="dataset")
    for asked in (ID, "other/one", "other/two"):
        assert (api.dataset_info(asked).id, api.dataset_info(asked).sha) == ("other/two", head)
    assert ask(hub.url, "GET", f"/datasets/{ID}/resolve/main/a").body == b"1"
    assert commit(api, {"a": "2"}).oid == api.dataset_info("other/two").sha
    assert not api.repo_exists(ID)  # the models have ids of their own
    api.create_repo(ID, repo_type="dataset")
    assert api.dataset_info(ID).id == ID and api.dataset_info("other/one").id == "other/two"
    api.update_repo_settings("other/two", private=True, repo_type="dataset")
    refused(401, lambda: HfApi(endpoint=hub.url, token=False).dataset_info("other/one"))
    for taken in (ID, "other/two"):
        refused(409, lambda: api.move_repo("other/two", taken, repo_type="dataset"), "exists already")  # noqa: B023
    refused(400, lambda: api.move_repo("other/two", "datasets/x", repo_type="dataset"), "repo id")


def test_what_a_killed_server_left_is_removed(tmp_path: Path) -> None:
    state = tmp_path / "hub/.hub"
    for name in (
        "uploads/old",
        "uploads/new",
        "blobs/.tmp-old",
        "models/a--b/.tmp-old",
        "models/a--b/commits/.tmp-old",
    ):
        write_tree(state, {name: b"half"})
        if not name.endswith("new"):
            os.utime(state / name, (1, 1))
    write_tree(state, {"trash/x/repo.json": b"{}", "blobs/" + "0" * 64: b"whole", "models/a--b/commits/x.json": b"{}"})
    with LiveHub(tmp_path / "hub"):
        left = {path.relative_to(state).as_posix() for path in state.rglob("*") if path.is_file()}
    assert left == {"uploads/new", "blobs/" + "0" * 64, "models/a--b/commits/x.json"}
