"""The real Hugging Face client reads what repos there are and what is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, RepoFile, RepoFolder
from huggingface_hub.errors import BadRequestError, EntryNotFoundError

from tests.server.served import FIRST, SECOND, TEXT, TOKEN, WEIGHTS, Served, ask, write_tree
from tests.support.hub_server import LiveHub


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.mark.parametrize(
    ("revision", "state"), [(None, SECOND), ("v1", FIRST), ("refs/tags/v1", FIRST), ("refs/heads/main", SECOND)]
)
def test_model_info(served: Served, revision: str | None, state: dict[str, bytes]) -> None:
    info = served.api().model_info("acme/demo", revision=revision)
    assert info.sha == (served.second if state is SECOND else served.first)
    assert [one.rfilename for one in info.siblings] == sorted(state)
    assert (info.id, info.author, info.private, info.gated) == ("acme/demo", "acme", False, False)
    assert (info.library_name, info.pipeline_tag, info.card_data.license) == ("peft", "text-classification", "mit")
    assert {"base_model:acme/tiny", "base_model:adapter:acme/tiny", "license:mit"} <= set(info.tags)


def test_model_info_with_files(served: Served) -> None:
    files = {one.rfilename: one for one in served.api().model_info("acme/demo", files_metadata=True).siblings}
    assert {name: one.size for name, one in files.items()} == {name: len(content) for name, content in SECOND.items()}
    assert files[WEIGHTS].lfs.sha256 == hashlib.sha256(SECOND[WEIGHTS]).hexdigest()
    assert files[TEXT].lfs is None
    assert files[TEXT].blob_id == git_blob(SECOND[TEXT])


def test_expand_chooses(served: Served) -> None:
    info = served.api().model_info("acme/demo", expand=["sha", "siblings"])
    assert (info.sha, info.tags, len(info.siblings)) == (served.second, None, len(SECOND))
    with pytest.raises(BadRequestError, match="inferenceProviderMapping"):
        served.api().model_info("acme/demo", expand=["inferenceProviderMapping"])


def test_the_tree(served: Served) -> None:
    tree = list(served.api().list_repo_tree("acme/demo"))
    assert [one.path for one in tree if isinstance(one, RepoFile)] == sorted(name for name in SECOND if "/" not in name)
    assert [one.path for one in tree if isinstance(one, RepoFolder)] == ["sub"]
    assert [one.path for one in served.api().list_repo_tree("acme/demo", "sub")] == [TEXT]
    assert served.api().list_repo_files("acme/demo") == sorted(SECOND)
    assert served.api().list_repo_files("acme/demo", revision=served.first) == sorted(FIRST)
    with pytest.raises(EntryNotFoundError):
        list(served.api().list_repo_tree("acme/demo", "nope"))


def test_the_commit_that_changed_a_path_last(served: Served) -> None:
    last = {
        one.path: one.last_commit.oid for one in served.api().list_repo_tree("acme/demo", recursive=True, expand=True)
    }
    changed = {WEIGHTS, TEXT, "sub", "empty.txt"}
    assert last == {path: served.second if path in changed else served.first for path in {*SECOND, "sub"}}


def test_refs(served: Served) -> None:
    refs = served.api().list_repo_refs("acme/demo", include_pull_requests=True)
    assert [(one.name, one.ref, one.target_commit) for one in refs.branches] == [
        ("main", "refs/heads/main", served.second)
    ]
    assert [(one.name, one.ref, one.target_commit) for one in refs.tags] == [("v1", "refs/tags/v1", served.first)]
    assert refs.pull_requests == []


def test_commits(served: Served) -> None:
    commits = served.api().list_repo_commits("acme/demo")
    assert [(one.commit_id, one.title, one.message) for one in commits] == [
        (served.second, "second", ""),
        (served.first, "first", "the beginning"),
    ]
    assert [one.commit_id for one in served.api().list_repo_commits("acme/demo", revision="v1")] == [served.first]


def test_paths_info(served: Served) -> None:
    found = {
        one.path: one for one in served.api().get_paths_info("acme/demo", [TEXT, "sub", "nope", WEIGHTS], expand=True)
    }
    assert set(found) == {TEXT, "sub", WEIGHTS}
    assert isinstance(found["sub"], RepoFolder)
    assert found[WEIGHTS].lfs.sha256 == hashlib.sha256(SECOND[WEIGHTS]).hexdigest()
    assert found[TEXT].last_commit.title == "second"
    assert served.api().get_paths_info("acme/demo", []) == []


def test_what_exists(served: Served) -> None:
    api = served.api()
    assert api.repo_exists("acme/demo") and not api.repo_exists("acme/nope")
    assert api.repo_exists("acme/rows", repo_type="dataset") and not api.repo_exists("acme/rows")
    assert api.revision_exists("acme/demo", "v1") and not api.revision_exists("acme/demo", "v2")
    assert not api.revision_exists("acme/demo", "refs/pr/1") and not api.revision_exists("acme/demo", "0" * 40)
    assert api.file_exists("acme/demo", TEXT) and not api.file_exists("acme/demo", "nope")
    assert api.file_exists("acme/demo", TEXT, revision="v1") and not api.file_exists(
        "acme/demo", WEIGHTS, revision="v1"
    )


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHub]:
    """Seven repos in pages of two; `lora-N` of acme with one base each, and one of another author."""
    root = tmp_path_factory.mktemp("many")
    with LiveHub(root / "hub", page_size=2) as hub:
        for number in range(6):
            card = f"---\nlibrary_name: peft\nbase_model: base/b{number % 2}\ntags: [sentiment]\n---\n"
            files = {"README.md": card.encode(), **{f"f{index}/x.txt": b"x" for index in range(3)}}
            hub.import_folder(f"acme/lora-{number}", write_tree(root / f"{number}", files))
        hub.import_folder("Other/Model", write_tree(root / "other", {"a.txt": b"a"}))
        for number in range(4):
            hub.import_folder("Other/Model", write_tree(root / "other", {"a.txt": b"%d" % number}))
        yield hub


LORAS = [f"acme/lora-{number}" for number in range(6)]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {*LORAS, "Other/Model"}),
        ({"author": "acme"}, set(LORAS)),
        ({"author": "nobody"}, set()),
        ({"search": "LORA-3"}, {"acme/lora-3"}),
        ({"search": "other model"}, {"Other/Model"}),
        ({"filter": "base_model:adapter:base/b1"}, {"acme/lora-1", "acme/lora-3", "acme/lora-5"}),
        ({"filter": ["sentiment", "base_model:base/b0"]}, {"acme/lora-0", "acme/lora-2", "acme/lora-4"}),
        ({"filter": "nope"}, set()),
        ({"gated": True}, set()),
        ({"search": "lora", "author": "Other"}, set()),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else f"{len(value)} found",  # a set has no order
)
def test_list_models(many: LiveHub, online: None, asked: dict[str, object], expected: set[str]) -> None:
    found = [one.id for one in HfApi(endpoint=many.url, token=False).list_models(**asked)]
    assert sorted(found) == sorted(expected)


def test_list_models_in_pages(many: LiveHub, online: None) -> None:
    api = HfApi(endpoint=many.url, token=False)
    many.log.clear()
    assert [one.id for one in api.list_models(filter="sentiment", limit=5, sort="created_at")] == LORAS[:0:-1]
    assert len(many.seen("GET", "/api/models")) == 3
    assert len(many.seen("GET", "cursor=")) == 2
    assert next(iter(api.list_models(full=True, author="Other"))).siblings[0].rfilename == "a.txt"


def test_the_newest_comes_first(many: LiveHub, online: None) -> None:
    listed = [one.id for one in HfApi(endpoint=many.url, token=False).list_models(sort="last_modified")]
    assert listed == ["Other/Model", *reversed(LORAS)]


def test_trees_and_commits_in_pages(many: LiveHub, online: None) -> None:
    api = HfApi(endpoint=many.url, token=False)
    assert api.list_repo_files("acme/lora-0") == ["README.md", "f0/x.txt", "f1/x.txt", "f2/x.txt"]
    assert len(many.seen("GET", "/tree/main")) == 4  # seven entries with the folders
    assert len(api.list_repo_commits("Other/Model")) == 5


@pytest.mark.parametrize(
    "asked", [{"num_parameters": "min:1B"}, {"inference": "warm"}, {"apps": "vllm"}, {"sort": "beauty"}], ids=str
)
def test_a_filter_that_this_hub_can_not_apply_is_refused(many: LiveHub, online: None, asked: dict[str, str]) -> None:
    with pytest.raises(BadRequestError):
        list(HfApi(endpoint=many.url, token=False).list_models(**asked))


def test_list_datasets(served: Served) -> None:
    assert [one.id for one in served.api().list_datasets(author="acme")] == ["acme/rows"]
    assert served.api().dataset_info("acme/rows").sha


def test_listing_shows_private_repos_to_members_alone(served: Served) -> None:
    assert {one.id for one in served.api().list_models()} == {"acme/demo", "acme/gated"}
    assert {one.id for one in served.api(TOKEN).list_models()} == {"acme/demo", "acme/gated", "acme/secret"}


def test_an_import_shows_at_once(tmp_path: Path, online: None) -> None:
    source = write_tree(tmp_path / "source", {"a.txt": b"1"})
    with LiveHub(tmp_path / "hub") as hub:
        api = HfApi(endpoint=hub.url, token=False)
        assert not api.repo_exists("a/b")
        first = hub.import_folder("a/b", source)
        assert api.model_info("a/b").sha == first
        second = hub.import_folder("a/b", write_tree(source, {"a.txt": b"2"}))
        assert api.model_info("a/b").sha == second != first


def test_ids_without_an_organisation(tmp_path: Path, online: None) -> None:
    source = write_tree(tmp_path / "source", FIRST)
    with LiveHub(tmp_path / "hub") as hub:
        hub.import_folder("gpt2", source)
        hub.import_folder("rows", source, repo_type="dataset")
        api = HfApi(endpoint=hub.url, token=False)
        assert (api.model_info("gpt2").author, [one.id for one in api.list_models()]) == (None, ["gpt2"])
        for name, repo_type in (("gpt2", "model"), ("rows", "dataset")):
            assert api.list_repo_refs(name, repo_type=repo_type).branches[0].name == "main"
            assert api.list_repo_files(name, repo_type=repo_type) == sorted(FIRST)
            path = api.hf_hub_download(name, TEXT, repo_type=repo_type, cache_dir=tmp_path / "cache")
            assert Path(path).read_bytes() == FIRST[TEXT]


def test_pages_behind_a_proxy_with_tls_stay_on_https(many: LiveHub, online: None) -> None:
    reply = ask(many.url, "GET", "/api/models", Host="hub.internal", X_Forwarded_Proto="https")
    assert reply.headers["link"].startswith("<https://hub.internal/api/models?cursor=")
