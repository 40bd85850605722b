"""Repositories and tokens that a release should not go to: said before anything is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hubcli import api
from hubcli.errors import NetworkError, PolicyError, PublishError, UsageError
from hubcli.manifest import BaseModel
from tests.publish import driver
from tests.publish.hubs import Wire, api_of, publications
from tests.publish.pushed import NAME
from tests.support.adapters import BASE_ID, IndexFolder, entry, lora_files, release
from tests.support.hub_server import LiveHub

REPO = "acme/films-lora"


def publish(folder: Path, version: str = "1.0.0", **more: object) -> Any:
    return api.publish(folder, name=NAME, version=version, repo=REPO, no_index=True, **more)  # type: ignore[arg-type]


def upload(hub: LiveHub, **files: bytes) -> None:
    """Files that someone else puts there; __ stands for a dot."""
    client = api_of(hub)
    client.create_repo(REPO, exist_ok=True)
    for path, data in files.items():
        client.upload_file(path_or_fileobj=data, path_in_repo=path.replace("__", "."), repo_id=REPO)


@pytest.mark.parametrize("theirs", ["config__json", "model__safetensors", "adapter_config__json"])
def test_what_is_something_elses_is_refused(hub: LiveHub, wire: Wire, folder: Path, theirs: str) -> None:
    upload(hub, **{theirs: b"{}"})
    wire.seen.clear()
    for dry_run in (True, False):
        with pytest.raises(PolicyError) as refused:
            publish(folder, dry_run=dry_run)
        assert theirs.replace("__", ".") in refused.value.message and "--into-existing" in str(refused.value.hint)
    assert not wire.writes
    publish(folder, into_existing=True)
    (folder / "adapter_config.json").write_bytes(lora_files(r=2, lora_alpha=8)["adapter_config.json"])
    publish(folder, "1.1.0")
    assert len(publications(hub, REPO)[0]) == 2, "the next release replaces the first one's files, and asks for nothing"


def test_files_beside_it_stay(hub: LiveHub, folder: Path) -> None:
    upload(hub, notes__md=b"theirs", train__py=b"x = 1")
    publish(folder)
    assert api_of(hub).file_exists(REPO, "train.py")


@pytest.mark.parametrize("private", [False, True], ids=["a README", "public"])
def test_one_that_someone_else_makes_in_between(hub: LiveHub, wire: Wire, folder: Path, private: bool) -> None:
    wire.when, wire.meanwhile = (
        "POST /api/repos/create",
        lambda: upload(hub, **({} if private else {"README__md": b"#"})),
    )
    (folder / "README.md").write_text("# ours")
    with pytest.raises(UsageError if private else PolicyError, match="public" if private else r"README\.md"):
        publish(folder, private=private)
    assert publications(hub, REPO) == ([], {}), "nothing of theirs is replaced, and nothing of ours is out"
    publish(folder, into_existing=True)


ROLES = {
    "read": {"role": "read"},
    "scopes": {"role": "fineGrained", "fineGrained": {"scoped": [{"permissions": ["repo.content.read"]}]}},
}


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("role", ROLES)
def test_a_token_that_only_reads_is_told_before_the_draft(
    hub: LiveHub, wire: Wire, folder: Path, monkeypatch: pytest.MonkeyPatch, role: str, there: bool
) -> None:
    monkeypatch.setattr(driver, "quick", lambda *_, **__: pytest.fail("the folder was looked at"))
    driver.install(monkeypatch)
    if there:
        upload(hub, notes__md=b"theirs")
    told = {"type": "user", "name": "acme", "orgs": [], "auth": {"accessToken": ROLES[role]}}
    wire.answer = lambda line: (200, json.dumps(told).encode()) if "whoami" in line else None
    wire.seen.clear()
    with pytest.raises(NetworkError, match="may read alone") as refused:
        publish(folder, dry_run=True)
    assert refused.value.id == "E_DENIED" and not wire.writes
    assert "may write" in str(refused.value.hint) and "accepted" not in str(refused.value.hint)


def test_what_is_out_is_verified_with_any_token(hub: LiveHub, wire: Wire, folder: Path) -> None:
    publish(folder)
    told = {"type": "user", "name": "acme", "orgs": [], "auth": {"accessToken": ROLES["read"]}}
    wire.answer = lambda line: (200, json.dumps(told).encode()) if "whoami" in line else None
    assert not publish(folder)["changed"]


def test_a_hub_that_does_not_run(folder: Path, hub: LiveHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(driver, "quick", lambda *_, **__: pytest.fail("the folder was looked at"))
    driver.install(monkeypatch)
    with pytest.raises(NetworkError, match="can't be reached") as refused:
        publish(folder)
    assert refused.value.id == "E_NETWORK" and "HF_ENDPOINT is http://127.0.0.1:9" in str(refused.value.hint)


def test_the_adapter_of_a_run_is_told_where_its_figures_are(hub: LiveHub, folder: Path) -> None:
    adapter = folder.parent / "run" / "adapter"
    adapter.parent.mkdir()
    folder.rename(adapter)
    assert not any("run.json" in note for note in publish(adapter, dry_run=True)["notes"])
    (adapter.parent / "run.json").write_text("{}")
    assert any(f"publish {adapter.parent} for them" in note for note in publish(adapter, dry_run=True)["notes"])


def test_what_is_done_already_is_not_announced(hub: LiveHub, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    call = {"name": NAME, "version": "1.0.0", "repo": REPO, "index": tmp_path / "index"}
    said: list[str] = []
    api.publish(folder, **call, say=said.append)  # type: ignore[arg-type]
    assert said[0].startswith("asking ") and any(line.startswith("writing the entry") for line in said)
    said.clear()
    api.publish(folder, **call, say=said.append)  # type: ignore[arg-type]
    assert not any(line.startswith("writing the entry") for line in said)


def test_who_was_there_first_publishes_on_beside_a_name_that_is_near(
    hub: LiveHub, folder: Path, tmp_path: Path
) -> None:
    index = IndexFolder(tmp_path / "index")
    call: dict[str, Any] = {"repo": REPO, "index": index.folder}
    index.write("acme/fi1ms", entry("acme/fi1ms", [release(lora_files())]))
    with pytest.raises(PublishError, match="acme/films beside acme/fi1ms"):
        api.publish(folder, name=NAME, version="1.0.0", **call)
    index.write(NAME, entry(NAME, [release(lora_files())]))
    assert api.publish(folder, name=NAME, version="1.1.0", **call)["changed"]


def test_what_is_out_is_drafted_on_the_base_that_it_names(
    hub: LiveHub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base's repository may have gone on since; a new version is drafted on what is there now."""
    (tmp_path / "index").mkdir()
    given: list[Any] = []
    monkeypatch.setattr(
        driver, "quick", lambda *a, real=driver.quick, **k: [given.append(k.get("released")), real(*a, **k)][1]
    )
    driver.install(monkeypatch)
    for version in ("1.0.0", "1.0.0", "1.1.0"):
        api.publish(folder, name=NAME, version=version, repo=REPO, index=tmp_path / "index")
    assert given == [None, BaseModel(BASE_ID, architecture="BertModel"), None]


def test_a_pull_request_that_waits_beside_it_is_told(hub: LiveHub, folder: Path) -> None:
    client, index = api_of(hub), "hf:datasets/acme/index"
    client.create_repo("acme/index", repo_type="dataset")
    client.upload_file(path_or_fileobj=b"x", path_in_repo="README.md", repo_id="acme/index", repo_type="dataset")
    call: dict[str, Any] = {"name": NAME, "repo": REPO, "index": index}
    first = api.publish(folder, version="1.0.0", **call)
    (said,) = [note for note in api.publish(folder, version="1.1.0", **call, dry_run=True)["notes"] if "waits" in note]
    assert f"{NAME} 1.0.0 waits in pull request {first['index']['pull_request']}: " in said
