"""lock and sync on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.adapters import IndexFolder
from tests.support.cli import hubcli


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "adapters.toml").write_text('[adapters]\n"acme/one" = "~1.0"\n"acme/two" = ""\n')
    return folder


def test_lock_is_exact_and_deterministic(index: IndexFolder, project: Path) -> None:
    document = hubcli("lock", "--json", cwd=project).document
    assert [(a["name"], a["version"]) for a in document["adapters"]] == [("acme/one", "1.0.0"), ("acme/two", "1.0.0")]
    before = (project / "adapters.lock").read_bytes()
    (project / "adapters.lock").unlink()
    hubcli("lock", cwd=project)
    assert (project / "adapters.lock").read_bytes() == before
    assert b"\r" not in before
    assert hubcli("lock", "--check", cwd=project).code == 0
    (project / "adapters.toml").write_text('[adapters]\n"acme/one" = "^1.1"\n')
    stale = hubcli("lock", "--check", "--json", cwd=project)
    assert (stale.code, stale.document["error"]["id"]) == (5, "E_LOCK")
    assert "hubcli lock" in stale.document["error"]["hint"]
    assert (project / "adapters.lock").read_bytes() == before, "--check writes nothing"
    assert hubcli("sync", cwd=project).code == 5
    assert hubcli("sync", "--frozen", cwd=project).code == 0


def test_lock_keeps_what_is_locked_until_told_to_upgrade(index: IndexFolder, project: Path) -> None:
    (project / "adapters.toml").write_text('[adapters]\n"acme/one" = "^1.0"\n')
    index.add("acme/one", "1.0.0")
    hubcli("lock", cwd=project)
    index.add("acme/one", "1.0.0", "1.2.0")
    assert [a["version"] for a in hubcli("lock", "--json", cwd=project).document["adapters"]] == ["1.0.0"]
    assert [a["version"] for a in hubcli("lock", "--upgrade", "--json", cwd=project).document["adapters"]] == ["1.2.0"]


def test_lock_asks_an_index_again_that_has_moved(index: IndexFolder, project: Path) -> None:
    for name, version in (("a", "1.0.0"), ("b", "1.2.0")):
        IndexFolder(project / name).add("team/x", version)

    def locked(url: object) -> str:
        wanted = f'[indexes]\nteam = {json.dumps(str(url))}\n[adapters]\n"team/x" = "^1.0"\n'
        (project / "adapters.toml").write_text(wanted)
        (row,) = hubcli("lock", "--json", cwd=project).document["adapters"]
        return str(row["version"])

    assert locked("a") == "1.0.0"
    IndexFolder(project / "a").add("team/x", "1.0.0", "1.1.0")
    same = ("./a/", project / "a", (project / "a").as_uri())
    assert {locked(url) for url in same} == {"1.0.0"}, "the same place in other words"
    assert hubcli("lock", "--check", cwd=project).code == 0
    assert locked("b") == "1.2.0"
    assert locked("a") == "1.1.0"


def test_check_and_upgrade_are_two_wishes(index: IndexFolder, project: Path) -> None:
    hubcli("lock", cwd=project)
    answer = hubcli("lock", "--check", "--upgrade", "--json", cwd=project)
    assert (answer.code, answer.document["error"]["id"]) == (2, "E_USAGE")


def test_sync_installs_what_is_locked(index: IndexFolder, project: Path) -> None:
    hubcli("lock", cwd=project)
    document = hubcli("sync", "--json", cwd=project).document
    assert [(i["name"], i["version"], i["changed"]) for i in document["installed"]] == [
        ("acme/one", "1.0.0", True),
        ("acme/two", "1.0.0", True),
    ]
    assert [i["changed"] for i in hubcli("sync", "--json", cwd=project).document["installed"]] == [False, False]
    assert (
        hubcli("install", "acme/one", "--locked", "--json", cwd=project).document["installed"][0]["version"] == "1.0.0"
    )
    assert hubcli("install", "sentiment/bert-lora", "--locked", cwd=project).code == 5


def test_save_writes_the_project(index: IndexFolder, tmp_path: Path) -> None:
    assert hubcli("install", "acme/one@^1.0", "--save", cwd=tmp_path).code == 0
    assert hubcli("lock", "--json", cwd=tmp_path).document["adapters"] == [{"name": "acme/one", "version": "1.1.0"}]
    text = (tmp_path / "adapters.toml").read_text()
    assert '"acme/one" = "^1.0"' in text


def test_a_lock_of_a_newer_hubcli_is_refused(index: IndexFolder, project: Path) -> None:
    hubcli("lock", cwd=project)
    lock = project / "adapters.lock"
    lock.write_text(lock.read_text().replace('lock-version = "1.0"', 'lock-version = "2.0"'))
    answer = hubcli("sync", "--json", cwd=project)
    assert (answer.code, answer.document["error"]["id"]) == (5, "E_LOCK")
    assert "2.0" in answer.document["error"]["message"]


@pytest.mark.parametrize(("state", "code"), [("yanked", 0), ("quarantined", 6)])
def test_row_39_withdrawn_after_it_was_locked(index: IndexFolder, project: Path, state: str, code: int) -> None:
    hubcli("lock", cwd=project)
    document = index.add("acme/two")
    change = (
        {"yanked": {"reason": "label leak", "date": "2026-02-02T00:00:00Z"}} if state == "yanked" else {"status": state}
    )
    document["releases"][0].update(change)
    index.write("acme/two", document)
    answer = hubcli("sync", cwd=project)
    assert answer.code == code
    assert ("label leak" if state == "yanked" else "quarantined") in answer.err
