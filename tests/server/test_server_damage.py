"""One repo that is damaged, or that goes while others are listed, takes no list with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from hubcli.server import import_folder
from hubcli.server.disk import Documents
from hubcli.server.repos import RepoStore
from tests.server.served import FIRST, write_tree
from tests.support.hub_server import LiveHub

TOKEN = "reads"
BAD = "acme--bad"


@pytest.fixture
def folder(hub: Path, tmp_path: Path) -> Path:
    """A hub of three repos; the one in the middle is to suffer, and its card is like no other."""
    for name, files in (("acme/a", FIRST), ("acme/bad", {**FIRST, "README.md": b"mine"}), ("zoo/z", FIRST)):
        import_folder(hub, name, write_tree(tmp_path / name, files))
    return hub


@pytest.fixture
def api(folder: Path, online: None) -> Iterator[HfApi]:
    with LiveHub(folder, token=TOKEN) as live:
        yield HfApi(endpoint=live.url, token=TOKEN)


def listed(api: HfApi) -> list[str]:
    return sorted(one.id for one in api.list_models())


def orgs(api: HfApi) -> list[str]:
    return [one["name"] for one in api.whoami()["orgs"]]


def newest(repo: Path) -> Path:
    return next((repo / "commits").iterdir())


def edited(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "settings": lambda repo: (repo / "repo.json").write_text("{"),
    "settings of another format": lambda repo: (repo / "repo.json").write_text('{"v": 99}'),
    "settings of other types": lambda repo: edited(repo / "repo.json", id=5),
    "refs of other types": lambda repo: edited(repo / "refs.json", branches=["main"]),
    "a branch that is no text": lambda repo: edited(repo / "refs.json", branches={"main": 5}),
    "no settings": lambda repo: (repo / "repo.json").unlink(),
    "refs": lambda repo: (repo / "refs.json").write_text("[]"),
    "no refs": lambda repo: (repo / "refs.json").unlink(),
    "commit": lambda repo: newest(repo).write_text(newest(repo).read_text().replace("Import", "import")),
    "no commit": lambda repo: newest(repo).unlink(),
    "no card": lambda repo: RepoStore(repo.parents[2]).blobs.path(card_of(repo)).unlink(),
}
SILENT = ("no settings", "no refs", "no commit")


def card_of(repo: Path) -> str:
    return RepoStore(repo.parents[2]).repo("model", "acme/bad").resolve("main").files["README.md"].sha256


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_repo_takes_no_list_with_it(
    folder: Path, api: HfApi, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    DAMAGE[damage](folder / ".hub/models" / BAD)
    assert listed(api) == ["acme/a", "zoo/z"]
    assert orgs(api) == ["acme", "zoo"]
    assert (f"left out of a list: {folder / '.hub/models' / BAD}: " in caplog.text) is (damage not in SILENT)


def test_a_repo_that_may_not_be_read_takes_no_list_with_it(api: HfApi, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Documents.read

    def denied(self: Documents, path: Path, parse: Any) -> Any:
        if BAD in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return real(self, path, parse)

    monkeypatch.setattr(Documents, "read", denied)
    assert (listed(api), orgs(api)) == (["acme/a", "zoo/z"], ["acme", "zoo"])


@pytest.mark.parametrize("read", [1, 2, 3])
@pytest.mark.parametrize("of", [listed, orgs])
def test_a_repo_that_goes_meanwhile_takes_no_list_with_it(
    api: HfApi, monkeypatch: pytest.MonkeyPatch, of: Callable[[HfApi], list[str]], read: int
) -> None:
    """It is deleted just before this one of its documents is read."""
    real, reads = Documents.read, 0

    def late(self: Documents, path: Path, parse: Any) -> Any:
        nonlocal reads
        if BAD in path.parts:
            reads += 1
            if reads == read:
                shutil.rmtree(next(parent for parent in path.parents if parent.name == BAD))
        return real(self, path, parse)

    monkeypatch.setattr(Documents, "read", late)
    assert of(api) == (["acme/a", "zoo/z"] if of is listed else ["acme", "zoo"])
