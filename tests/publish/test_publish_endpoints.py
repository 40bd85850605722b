"""An index that names no hub, or another than the one a release goes to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hubcli import api
from hubcli.errors import NetworkError
from tests.publish.pushed import NAME, checkout, git
from tests.support.adapters import IndexFolder
from tests.support.cli import hubcli as command_line
from tests.support.hub_server import LiveHub

REPO = "acme/films-lora"
OTHER = "https://hub.acme.example"


def plan(folder: Path, index: Path) -> list[str]:
    """What a person is told of the index before anything is written."""
    call = ("--name", NAME, "--version", "1.0.0", "--repo", REPO, "--index", str(index), "--dry-run")
    return command_line("publish", str(folder), *call).out.splitlines()


@pytest.mark.parametrize("case", ["none", "this", "another"])
def test_an_index_that_names_another_hub_or_none(hub: LiveHub, folder: Path, tmp_path: Path, case: str) -> None:
    index = tmp_path / "index"
    IndexFolder(index).add("acme/books")
    said = {"none": {}, "this": {"endpoint": hub.url}, "another": {"endpoint": OTHER}}[case]
    (index / "_index.json").write_text(json.dumps(said))
    lines = plan(folder, index)
    warned = [line for line in lines if line.startswith("warning: ")]
    wanted = {
        "none": [f'add "endpoint": "{hub.url}" to its _index.json'],
        "this": [],
        "another": [f"HF_ENDPOINT={OTHER}"],
    }
    assert len(warned) == len(wanted[case]) and all(part in warned[0] for part in wanted[case]), warned
    assert f"  writes {NAME}.json" in lines


@pytest.mark.parametrize("kind", ["folder", "git"])
def test_a_new_index_says_where_its_files_are(
    hub: LiveHub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    index = tmp_path / "index"
    index.mkdir()
    if kind == "git":
        for name in ("AUTHOR", "COMMITTER"):
            monkeypatch.setenv(f"GIT_{name}_NAME", "Acme")
            monkeypatch.setenv(f"GIT_{name}_EMAIL", "acme@example.org")
        checkout(index, {"README.md": "ours"})
    lines = plan(folder, index)
    assert f"  writes _index.json, {NAME}.json" in lines
    assert kind == "folder" or f"index {index}: branch publish/{NAME}-1.0.0, on main" in lines
    assert not (index / "_index.json").exists()
    done = api.publish(folder, name=NAME, version="1.0.0", repo=REPO, index=index)
    if kind == "git":
        git(index, "merge", "-q", done["index"]["branch"])
    assert json.loads((index / "_index.json").read_bytes()) == {"endpoint": hub.url}
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    api.index_add("ours", str(index))
    (installed,) = api.install(NAME)["installed"]
    assert installed["name"] == NAME
    with pytest.raises(NetworkError):
        api.install(f"hf:{REPO}")
