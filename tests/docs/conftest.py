"""What guides start from: a hub with a base on it, a trained adapter in a folder, an index in a git checkout with a remote."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.console import ROOT, Shell
from tests.publish.hubs import TOKEN
from tests.publish.pushed import IDENTITY
from tests.support import trainable
from tests.support.hub_server import LiveHub, client_environment

BASE = "acme/tiny-bert"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base`, and `work/films`: a run of `hubcli train` on it, made by a process whose hub has the base."""
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("made")
    trainable.base(folder / "base")
    (folder / "work").mkdir()
    trainable.jsonl(folder / "work" / "rows.jsonl", trainable.reviews())
    (folder / "work" / "films.toml").write_text(trainable.recipe_text(epochs=1, batch_size=8))
    with LiveHub(folder / "hub", token=TOKEN) as hub:
        hub.import_folder(BASE, folder / "base")
        environment = client_environment(hub, folder / "hf") | {
            "HUBCLI_HOME": str(folder / "home"),
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "hubcli", "train", "films.toml", "--out", "films"]
        done = subprocess.run(
            command, cwd=folder / "work", env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    """A working folder with `films`, and `our-index`: a git checkout whose origin is a bare repository beside it."""
    from tests.publish.pushed import git

    shutil.copytree(made / "work", tmp_path / "work")
    shutil.copytree(ROOT / "examples" / "index-repository", tmp_path / "work" / "our-index")
    shutil.rmtree(tmp_path / "work" / "our-index" / "acme")  # an index in which nothing is published yet
    index = tmp_path / "work" / "our-index"
    git(index, "init", "-q", "-b", "main")
    git(index, "add", "-A")
    git(index, "commit", "-q", "-m", "An index")
    git(tmp_path, "clone", "-q", "--bare", str(index), "origin.git")
    git(index, "remote", "add", "origin", str(tmp_path / "origin.git"))
    git(index, "fetch", "-q", "origin")
    return tmp_path / "work"


@pytest.fixture
def hub(made: Path, tmp_path: Path) -> Iterator[LiveHub]:
    """A hub that may be written, with the base."""
    with LiveHub(tmp_path / "hub", token=TOKEN) as live:
        live.import_folder(BASE, made / "base")
        yield live


@pytest.fixture
def shell(work: Path, hub: LiveHub) -> Iterator[Shell]:
    """A shell in the working folder, with an empty home, and the network but for loopback out of reach."""
    environment = {
        name: value
        for name, value in client_environment(hub, work.parent / "hf").items()
        if name not in os.environ or os.environ[name] != value
    }
    environment |= {**IDENTITY, "HUBCLI_HOME": str(work.parent / "home"), "PYTHONPATH": str(ROOT)}
    environment.pop("HF_ENDPOINT")
    environment |= {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1,localhost"}
    instead = {"https://hub.acme.example": hub.url, "hf_…": TOKEN, "google-bert/bert-base-uncased": BASE}
    with Shell(work, environment, instead) as opened:
        yield opened
