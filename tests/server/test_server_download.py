"""The real Hugging Face client fetches files; the source folders are the oracle."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.file_download import http_get

from tests.server.served import FIRST, SECOND, WEIGHTS, Served, read_tree


@pytest.mark.parametrize(("revision", "state"), [("main", SECOND), ("v1", FIRST), ("first", FIRST), ("second", SECOND)])
def test_a_file_at_main_tag_and_commit(served: Served, tmp_path: Path, revision: str, state: dict[str, bytes]) -> None:
    commit = {"first": served.first, "second": served.second}.get(revision, revision)
    for name, content in state.items():
        path = hf_hub_download("acme/demo", name, revision=commit, endpoint=served.hub.url, cache_dir=tmp_path)
        assert Path(path).read_bytes() == content


def test_a_commit_that_is_cached_is_not_asked_for_again(served: Served, tmp_path: Path) -> None:
    wanted = {"revision": served.second, "endpoint": served.hub.url, "cache_dir": tmp_path}
    first = hf_hub_download("acme/demo", WEIGHTS, **wanted)
    served.hub.log.clear()
    assert hf_hub_download("acme/demo", WEIGHTS, **wanted) == first
    assert served.hub.log == []


@pytest.mark.parametrize(("revision", "state"), [(None, SECOND), ("v1", FIRST)])
def test_a_snapshot_is_the_folder(
    served: Served, tmp_path: Path, revision: str | None, state: dict[str, bytes]
) -> None:
    folder = snapshot_download("acme/demo", revision=revision, endpoint=served.hub.url, cache_dir=tmp_path)
    assert read_tree(Path(folder)) == state


def test_a_dataset(served: Served, tmp_path: Path) -> None:
    folder = snapshot_download("acme/rows", repo_type="dataset", endpoint=served.hub.url, cache_dir=tmp_path)
    assert read_tree(Path(folder)) == FIRST


def test_the_client_finds_every_checksum_right(served: Served, tmp_path: Path) -> None:
    snapshot_download("acme/demo", endpoint=served.hub.url, cache_dir=tmp_path)
    checked = served.api().verify_repo_checksums("acme/demo", cache_dir=tmp_path)
    assert (checked.checked_count, checked.mismatches, checked.missing_paths, checked.extra_paths) == (
        len(SECOND),
        [],
        [],
        [],
    )


def test_the_client_resumes_a_download(served: Served) -> None:
    content, half = SECOND[WEIGHTS], 1_000_003
    file = io.BytesIO(content[:half])
    file.seek(half)
    http_get(f"{served.hub.url}/acme/demo/resolve/main/{WEIGHTS}", file, resume_size=half, expected_size=len(content))
    assert file.getvalue() == content
    assert served.hub.log[-1].headers["range"] == f"bytes={half}-"


def test_what_was_fetched_before_is_known_by_its_etag(served: Served, tmp_path: Path) -> None:
    for revision in ("v1", "main"):
        hf_hub_download("acme/demo", "README.md", revision=revision, endpoint=served.hub.url, cache_dir=tmp_path)
    assert len(served.hub.seen("GET", "README.md")) == 1


def test_a_missing_file_is_remembered_as_missing(served: Served, tmp_path: Path) -> None:
    from huggingface_hub.errors import EntryNotFoundError

    with pytest.raises(EntryNotFoundError):
        hf_hub_download("acme/demo", "nope.bin", endpoint=served.hub.url, cache_dir=tmp_path)
    assert (tmp_path / f"models--acme--demo/.no_exist/{served.second}/nope.bin").exists()
