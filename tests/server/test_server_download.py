"""The real Hugging Face client fetches files; the source folders are the oracle."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download, snapshot_download

from tests.server.conftest import FIRST, SECOND, Served

WEIGHTS, TEXT = "adapter_model.safetensors", "sub/ünï cødé.txt"


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
    assert tree(Path(folder)) == state
