"""The commands of docs/private-index.md run, one after the other, as they stand there; what it says they print, they print."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from hubcli import api
from hubcli.index.owners import read_owners
from hubcli.index.similar import near_collisions, near_groups
from tests.registry.checkout import commit, git
from tests.support.cli import hubcli
from tests.support.hub_server import LiveHub, allow_loopback

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "private-index.md").read_text(encoding="utf-8")
MINE = ("Keeping an index", "Owners", "An index on the hub")
TOKEN = "hub-token-for-tests"


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", GUIDE, re.DOTALL | re.MULTILINE)
    assert found is not None, title
    return found[1]


def commands(text: str) -> list[tuple[str, str]]:
    """(command, what it prints as shown) of the console blocks."""
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    parts = [part for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(first, rest.strip()) for first, _, rest in (part.partition("\n") for part in parts)]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The example as a clone whose branch is even with origin/main; a hub that may be written."""
    shutil.copytree(ROOT / "examples" / "index-repository", tmp_path / "index")
    git(tmp_path / "index", "init", "-q", "-b", "main")
    commit(tmp_path / "index")
    git(tmp_path / "index", "update-ref", "refs/remotes/origin/main", "main")
    monkeypatch.chdir(tmp_path / "index")
    allow_loopback(monkeypatch)
    with LiveHub(tmp_path / "hub", token=TOKEN) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        HfApi(endpoint=hub.url, token=TOKEN).create_repo("acme/index", repo_type="dataset")
        yield tmp_path / "index"


def run(words: list[str], folder: Path) -> str:
    """One command; those of other programs are run by what they call."""
    if words[0] == "git":
        return git(folder, *words[1:])
    if words[0] == "hf":
        repo, source, target, *_ = words[2:]
        client = HfApi(endpoint=os.environ["HF_ENDPOINT"], token=TOKEN)
        left_out = [".git/*"]
        client.upload_folder(
            repo_id=repo, repo_type="dataset", folder_path=source, path_in_repo=target, ignore_patterns=left_out
        )
        return ""
    assert words[0] == "hubcli"
    answer = hubcli(*words[1:])
    assert answer.code == 0, answer.err
    return answer.out + answer.err


def test_the_commands_work(index: Path) -> None:
    seen = []
    for title in MINE:
        for command, shown in commands(section(title)):
            said = run(shlex.split(command), index)
            assert not shown or said.strip() == shown, command
            seen.append(command.split()[1])
    assert {"index", "yank", "deprecate", "upload"} <= set(seen)
    rows = {row["name"]: row["entries"] for row in api.index_list()["indexes"]}
    assert (rows["ours"], rows["acme"]) == (1, 1)


def test_it_starts_with_an_index_that_others_can_clone(tmp_path: Path) -> None:
    (tmp_path / "hubcli").symlink_to(ROOT)
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "origin.git")
    for command, _ in commands(section("Starting one")):
        words = [str(tmp_path / "origin.git") if "://" in word else word for word in shlex.split(command)]
        if words[0] == "git":
            git(tmp_path, *words[1:])
        else:
            subprocess.run(words, cwd=tmp_path, check=True)
    git(tmp_path, "clone", "-q", "origin.git", "clone")
    assert hubcli("index", "check", str(tmp_path / "clone")).out == "1 entry, 0 faults\n"


def test_what_it_shows_of_owners_is_valid() -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", section("Owners"), re.DOTALL)
    owners, faults = read_owners(shown.encode())
    assert owners is not None and not faults and set(owners.groups) == {"acme", "films"}
    assert json.loads(shown)["v"] == 1


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(((?!http|#)[^)]+)\)", GUIDE))))
def test_every_link_leads_somewhere(target: str) -> None:
    assert (ROOT / "docs" / target).exists()


def test_the_names_it_shows_are_taken_for_each_other() -> None:
    pairs = re.findall(r'`\["([^"]+)", "([^"]+)"\]`', section("Keeping an index"))
    assert len(pairs) == 2
    for a, b in pairs:
        groups = a.endswith("/")
        assert (near_groups([f"{a}x", f"{b}y"]) if groups else near_collisions([a, b])) == [(a, b)]
    apart = [("lang/de", "lang/da"), ("acme/bert-lora", "acme/bert-qlora")]
    assert not any(near_collisions(pair, pair) for pair in apart)
