"""A whole life of a repo, step by step, with the real `huggingface_hub` client.

What each step must give is what that client's own documentation says: the errors under "Raises", the meaning of
`exist_ok`, `missing_ok`, `parent_commit`, `create_pr`. The client runs in a process of its own, with `hf_xet` installed
and, for the LFS steps, `HF_HUB_DISABLE_XET=1`, as a person would have it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hubcli.server.limits import Limits
from tests.support.hub_server import LiveHub, client_environment

TOKEN, READ = "writes", "only-reads"
LIFE = Path(__file__).with_name("life_of_a_repo.py")


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each step gave, by name: for both settings of Xet."""
    root = tmp_path_factory.mktemp("life")
    limits = Limits(max_file=4_000_000, max_repo=20_000_000, lfs_above=1_000_000)
    found: dict[str, Any] = {}
    with LiveHub(root / "hub", token=TOKEN, read_token=READ, limits=limits) as hub:
        for xet in ("xet", "lfs"):
            work = root / xet
            work.mkdir()
            environment = client_environment(hub, work / "home", token=TOKEN)
            environment |= {"HF_HUB_DISABLE_XET": "1"} if xet == "lfs" else {}
            command = [sys.executable, str(LIFE), str(work), f"acme/{xet}", READ]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            found[xet] = json.loads(done.stdout)
    return found


COMMON = {
    "1 whoami": ["member", "write", True],
    "2 create": "acme/{name}",
    "3 create again": ["HfHubHTTPError", 409],
    "4 create again, exist_ok": "acme/{name}",
    "5 create private": [True, "RepositoryNotFoundError"],
    "6 upload a file": "{name}",
    "7 upload a folder": ["a/one.txt", "a/two.txt"],
    "8 the same folder again": "no new commit",
    "9 add, delete and copy in one commit": [["README.md", "a/copy.txt", "a/one.txt", "adapter_model.safetensors"], "two"],
    "11 a parent that has moved": ["HfHubHTTPError", 412, True],
    "12 the right parent": True,
    "13 branch": ["dev", "HfHubHTTPError", 409, "exist_ok passes"],
    "14 branch of nothing": ["RevisionNotFoundError", 404],
    "15 commit on a branch": [True, False],
    "16 tag": ["v1", "HfHubHTTPError", 409, "exist_ok passes"],
    "17 refs": [["dev", "main"], ["v1"], []],
    "18 a pull request by create_pr": ["refs/pr/1", 1, False],
    "19 discussions": [[3, 2, 1], [3, 1], [2], [3, 2], [1], []],
    "20 details": ["open", True, "refs/heads/main", ["comment", "commit"], [], None],
    "21 comment, rename, close, reopen": ["a comment", ["old title", "new title"], "closed", "open"],
    "22 commit onto the pull request": [True, True],
    "23 merge": ["merged", True, "in a pull request"],
    "24 merge again": ["HfHubHTTPError", 409],
    "25 download at tag, commit and pull request": [True, True, True],
    "26 snapshot": True,
    "27 tree and paths": [["a", "a/one.txt"], ["README.md"], True],
    "28 list with a filter": [["acme/{name}"], []],
    "29 settings": [True, "manual", "RepositoryNotFoundError", False],
    "30 move": ["acme/{name}-moved", "acme/{name}-moved", "HfHubHTTPError", 409],
    "31 delete a file and a folder": [False, False, "RemoteEntryNotFoundError", 404],
    "32 delete the tag and the branch": [[], ["main"], "RevisionNotFoundError", "RevisionNotFoundError", 403],
    "33 delete the repo": ["RepositoryNotFoundError", 404, "missing_ok passes"],
    "errors: a wrong token": ["HfHubHTTPError", 401],
    "errors: no right": ["HfHubHTTPError", 403],
    "errors: an unknown repo": ["RepositoryNotFoundError", 404],
    "errors: an unknown revision": ["RevisionNotFoundError", 404],
    "errors: a file too large": ["HfHubHTTPError", 413, True],
    "errors: bad metadata": ["ValueError", True],
    "errors: super squash": ["HfHubHTTPError", 501],
}  # fmt: skip
OF_LFS = {
    "10 a large file by LFS": {
        "lfs": ["same bytes", "kept by LFS"],
        # documented for Xet: no LFS fallback; the server has to say what to do
        "xet": ["refused", "nothing committed"],
    }
}


def filled(value: Any, name: str) -> Any:
    return json.loads(json.dumps(value).replace("{name}", name))


@pytest.mark.slow
@pytest.mark.parametrize("xet", ["xet", "lfs"])
@pytest.mark.parametrize("step", COMMON)
def test_each_step_is_as_the_client_documents_it(lives: dict[str, Any], step: str, xet: str) -> None:
    assert lives[xet][step] == filled(COMMON[step], xet)


@pytest.mark.slow
@pytest.mark.parametrize("xet", ["xet", "lfs"])
def test_a_large_file(lives: dict[str, Any], xet: str) -> None:
    assert lives[xet]["10 a large file by LFS"] == OF_LFS["10 a large file by LFS"][xet]


@pytest.mark.slow
def test_no_step_is_left_out(lives: dict[str, Any]) -> None:
    assert set(lives["lfs"]) == set(lives["xet"]) == {*COMMON, *OF_LFS}
