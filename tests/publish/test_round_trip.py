"""The round trip over HTTP: train, publish, and from an empty home add the index, install and run, each in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hubcli.api import index_check
from tests.publish.hubs import TOKEN, go_online, publications, run
from tests.publish.pushed import checkout, git, owners
from tests.support import trainable
from tests.support.cli import validator
from tests.support.hub_server import LiveHub

pytestmark = pytest.mark.slow
BASE, NAME, REPO = "acme/tiny-bert", "acme/films", "acme/films-lora"
TEXTS = ["the film is good", "a long and dull plot", "not bad"]


def hubcli(hub: LiveHub, home: Path, *arguments: str) -> Any:
    """The answer of `hubcli … --json`, which has passed its schema."""
    done = run(hub, home, *arguments, "--json", script=None)
    assert done.returncode == 0, done.stderr + done.stdout
    document = json.loads(done.stdout)
    name = "-".join(arguments[:2]) if arguments[0] == "index" else arguments[0]
    validator(name).validate(document)
    assert TOKEN not in done.stdout + done.stderr
    return document


TRAIN = """import json, sys
from hubcli import api
recipe, folder, *texts = sys.argv[1:]
api.train(recipe, folder)
print(json.dumps(api.run(folder + "/adapter", texts)["predictions"]))
"""


def test_train_publish_install_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainable.base(tmp_path / "base")
    author, stranger, work = tmp_path / "author", tmp_path / "stranger", str(tmp_path / "run")
    with LiveHub(tmp_path / "hub", token=TOKEN) as hub:
        go_online(monkeypatch, hub)
        hub.import_folder(BASE, tmp_path / "base")
        trainable.jsonl(tmp_path / "rows.jsonl", trainable.reviews())
        (tmp_path / "films.toml").write_text(trainable.recipe_text(epochs=2, batch_size=4))
        (tmp_path / "train.py").write_text(TRAIN)
        trained = run(hub, author, str(tmp_path / "films.toml"), work, *TEXTS, script=tmp_path / "train.py")
        assert trained.returncode == 0, trained.stderr
        index = checkout(tmp_path / "ours", {"index/_owners.json": owners(other=["other"])}) / "index"
        said = ["--license", "mit", "--author", "Ann", "--description", "A film, good or bad.", "--index", str(index),
                    "--by", "ann"]  # fmt: skip
        done = hubcli(hub, author, "publish", work, "--repo", REPO, "--name", NAME, "--version", "1.0.0", *said)
        assert done["changed"] and done["index"]["branch"] == "publish/acme/films-1.0.0"
        assert publications(hub, REPO) == ([done["commit"]], {"v1.0.0": done["commit"]})
        git(index, "merge", "-q", done["index"]["branch"])
        checked = index_check(index, against="HEAD~1", by="ann")
        assert checked["ok"], checked["faults"]
        hubcli(hub, stranger, "index", "add", "ours", str(index))
        after = hubcli(hub, stranger, "run", NAME, *TEXTS)["predictions"]  # installs it
        assert after == json.loads(trained.stdout.splitlines()[-1])
        (installed,) = hubcli(hub, stranger, "install", NAME)["installed"]
        assert (installed["version"], installed["changed"]) == ("1.0.0", False)
