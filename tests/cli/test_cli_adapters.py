"""install, list, info, outdated, upgrade, uninstall, verify on the command line: exit codes, JSON and what a person reads."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from hubcli.paths import bundled
from hubcli.store import Store
from tests.support.adapters import IndexFolder, lora_files, release
from tests.support.cli import hubcli


def test_the_bundled_adapter_installs_and_every_byte_is_the_promised_one(home: Path) -> None:
    answer = hubcli("install", "sentiment/bert-lora", "--json")
    assert answer.code == 0
    (done,) = answer.document["installed"]
    promised = json.loads((bundled("registry-index") / "sentiment/bert-lora.json").read_text())["releases"][-1]["files"]
    for file in promised:
        data = (Path(done["path"]) / file["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["size"], file["sha256"])
    assert done["changed"] is True
    assert done["base"] == "sentence-transformers/all-MiniLM-L6-v2"
    again = hubcli("install", "sentiment/bert-lora", "--json")
    assert [i["changed"] for i in again.document["installed"]] == [False]
    assert hubcli("install", "sentiment/bert-lora").out.startswith(
        "already installed (verified): sentiment/bert-lora 1.1.0"
    )


@pytest.mark.parametrize(
    ("spec", "version"),
    [("", "1.1.0"), ("@1.0", "1.0.0"), ("@^1.0", "1.1.0"), ("@>=2.0.0-0", "2.0.0-rc.1"), ("@1.0.0", "1.0.0")],
)
def test_the_newest_version_allowed_is_taken(index: IndexFolder, spec: str, version: str) -> None:
    answer = hubcli("install", f"acme/one{spec}", "--json")
    assert [i["version"] for i in answer.document["installed"]] == [version]


def test_many_refs_each_says_what_became_of_it(index: IndexFolder) -> None:
    answer = hubcli("install", "acme/one", "acme/nope", "acme/two", "--json")
    assert answer.code == 3
    assert [i["name"] for i in answer.document["installed"]] == ["acme/one", "acme/two"]
    (failed,) = answer.document["failed"]
    assert failed["ref"] == "acme/nope"
    assert failed["error"]["id"] == "E_NOT_FOUND"
    spoken = hubcli("install", "acme/one", "acme/twoo")
    assert "acme/twoo" in spoken.err
    assert "did you mean 'acme/two'" in spoken.err


def test_versions_live_side_by_side_and_uninstall_takes_what_fits(index: IndexFolder) -> None:
    hubcli("install", "acme/one@1.0.0", "acme/one@1.1.0", "acme/two")
    listed = hubcli("list", "--json").document["adapters"]
    assert [(a["name"], a["version"]) for a in listed] == [
        ("acme/one", "1.0.0"),
        ("acme/one", "1.1.0"),
        ("acme/two", "1.0.0"),
    ]
    dry = hubcli("uninstall", "acme/one@1.0", "--dry-run", "--json").document["removed"]
    assert [r["version"] for r in dry] == ["1.0.0"]
    assert len(hubcli("list", "--json").document["adapters"]) == 3
    hubcli("uninstall", "acme/one@1.0")
    assert [a["version"] for a in hubcli("list", "--json").document["adapters"]] == ["1.1.0", "1.0.0"]
    gone = hubcli("uninstall", "acme/one@1.0", "--json")
    assert (gone.code, gone.document["error"]["id"]) == (3, "E_NOT_FOUND")
    assert "1.1.0" in gone.document["error"]["message"]


def test_outdated_and_upgrade(index: IndexFolder) -> None:
    hubcli("install", "acme/one@1.0.0", "acme/two")
    assert hubcli("outdated", "--json").document["outdated"] == [
        {"name": "acme/one", "installed": "1.0.0", "latest": "1.1.0", "index": "acme"}
    ]
    assert [i["version"] for i in hubcli("upgrade", "--dry-run", "--json").document["installed"]] == ["1.1.0"]
    assert [i["version"] for i in hubcli("upgrade", "--json").document["installed"]] == ["1.1.0"]
    assert hubcli("outdated").out == "everything is up to date\n"
    assert hubcli("upgrade").out == "everything is up to date\n"


def test_what_an_index_offers_is_news_only_where_it_is_newer(index: IndexFolder) -> None:
    hubcli("install", "acme/one@2.0.0-rc.1")
    assert hubcli("outdated", "--json").document["outdated"] == []
    assert hubcli("upgrade", "--json").document["installed"] == []
    assert [a["version"] for a in hubcli("list", "--json").document["adapters"]] == ["2.0.0-rc.1"]


def test_uninstall_says_what_it_waits_for_and_a_dry_run_of_it_writes_nothing(
    index: IndexFolder, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubcli("install", "acme/one")
    shutil.rmtree(home / "store/v1/locks")
    assert hubcli("uninstall", "acme/one", "--dry-run").out == "would remove acme/one 1.1.0\n"
    assert not (home / "store/v1/locks").exists()
    monkeypatch.setenv("HUBCLI_LOCK_TIMEOUT", "0.05")
    with Store(home).lock("acme/one"):
        answer = hubcli("uninstall", "acme/one")
    assert answer.code == 8
    assert "waiting for adapter acme/one" in answer.err


def test_a_dry_run_leaves_nothing(index: IndexFolder, home: Path) -> None:
    answer = hubcli("install", "acme/one", "--dry-run", "--json")
    assert answer.document["installed"][0]["changed"] is True
    assert hubcli("list", "--json").document["adapters"] == []
    assert not (home / "store").exists()


def test_verify_names_damage_and_repairs_it(index: IndexFolder) -> None:
    (done,) = hubcli("install", "acme/one", "--json").document["installed"]
    weights = Path(done["path"]) / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    os.chmod(weights, 0o644)
    weights.write_bytes(data)
    answer = hubcli("verify", "--json")
    assert answer.code == 4
    (row,) = answer.document["adapters"]
    assert row["status"] == "modified"
    assert "adapter_model.safetensors" in row["problems"][0]
    repaired = hubcli("verify", "--repair", "--json")
    assert (repaired.code, repaired.document["adapters"][0]["repaired"]) == (0, True)
    assert hubcli("verify", "--json").document["ok"] is True


def test_repair_goes_on_where_one_adapter_cannot_be_repaired(index: IndexFolder) -> None:
    done = hubcli("install", "acme/one", "acme/two", "--json").document["installed"]
    kept = {file["sha256"] for file in done[1]["files"]}
    for path in (Path(row["path"]) for row in done):
        shutil.rmtree(path.parents[4] / "v1" / "blobs", ignore_errors=True)
        (path / "adapter_model.safetensors").unlink()
    for blob in (index.folder / "_files").iterdir():
        if blob.name not in kept:
            blob.unlink()
    assert hubcli("verify", "--repair", "--json").document["error"]["id"] == "E_NOT_FOUND"
    rows = hubcli("verify", "--json").document["adapters"]
    assert [(row["name"], row["status"]) for row in rows] == [("acme/one", "missing"), ("acme/two", "ok")]


def test_info_tells_of_index_and_store(index: IndexFolder) -> None:
    hubcli("install", "acme/one@1.0.0")
    document = hubcli("info", "acme/one", "--json").document
    assert document["versions"] == ["2.0.0-rc.1", "1.1.0", "1.0.0"]
    assert (document["version"], document["installed"]) == ("1.1.0", ["1.0.0"])
    (index.folder / "acme/one.json").unlink()
    kept = hubcli("info", "acme/one", "--json").document
    assert kept["version"] == "1.0.0"
    assert "from the store alone" in kept["warnings"][0]


@pytest.mark.parametrize("state", ["yanked", "quarantined", "deprecated"])
@pytest.mark.parametrize("door", ["new", "exact", "installed"])
def test_row_39_withdrawn_releases(index: IndexFolder, state: str, door: str) -> None:
    ref = "acme/bad@1.0.0" if door == "exact" else "acme/bad"
    document = index.add("acme/bad")
    if door == "installed":
        hubcli("install", ref)
    change = (
        {"yanked": {"reason": "label leak", "date": "2026-02-02T00:00:00Z"}} if state == "yanked" else {"status": state}
    )
    document["releases"][0].update(change)
    index.write("acme/bad", document)
    answer = hubcli("install", ref, "--json")
    refused = state == "quarantined" or (state == "yanked" and door != "exact")
    assert answer.code == (6 if refused else 0)
    if refused:
        expected = "E_QUARANTINED" if state == "quarantined" else "E_YANKED"
        assert answer.document["failed"][0]["error"]["id"] == expected
    else:
        assert ("label leak" if state == "yanked" else "deprecated") in answer.err


def test_remote_text_reaches_a_terminal_without_control_characters(index: IndexFolder) -> None:
    document = index.add("acme/loud")
    document["releases"][0]["yanked"] = {"reason": "x\u202ey", "date": "2026-02-02T00:00:00Z"}
    index.write("acme/loud", document)
    for arguments in (
        ["install", "acme/loud@1.0.0"],
        ["search", "loud"],
        ["info", "acme/loud@1.0.0"],
        ["index", "check", str(index.folder)],
    ):
        answer = hubcli(*arguments)
        text = answer.out + answer.err
        assert "\u202e" not in text
        assert not [c for c in text if ord(c) < 32 and c != "\n"]


def test_one_bad_entry_does_not_hide_the_others(index: IndexFolder) -> None:
    bad = index.add("acme/broken")
    bad["releases"][-1]["files"][0]["sha256"] = "xyz"
    bad["description"] = 7
    index.write("acme/broken", bad)
    answer = hubcli("index", "check", str(index.folder), "--json")
    assert answer.code == 4
    assert {f["file"].rsplit("/", 1)[-1] for f in answer.document["faults"]} == {"broken.json"}
    assert len(answer.document["faults"]) >= 2, "all faults of a file at once"
    assert hubcli("install", "acme/two").code == 0
    refused = hubcli("install", "acme/broken", "--json")
    assert refused.code == 4


def test_other_bytes_under_an_installed_version_are_refused_and_change_nothing(index: IndexFolder) -> None:
    hubcli("install", "acme/two")
    other = lora_files(fill=9.0)
    index.put(other)
    document = index.add("acme/two")
    document["releases"] = [release(other)]
    index.write("acme/two", document)
    answer = hubcli("install", "acme/two", "--json")
    assert (answer.code, answer.document["failed"][0]["error"]["id"]) == (4, "E_IMMUTABLE")
    assert hubcli("verify").code == 0


def test_what_could_not_be_checked_or_synced_is_not_called_fine(index: IndexFolder, tmp_path: Path) -> None:
    hubcli("install", "acme/one@1.0.0", "--save", cwd=tmp_path)
    hubcli("lock", cwd=tmp_path)
    hubcli("index", "remove", "acme")
    asked = hubcli("outdated")
    assert "1 adapter could not be checked" in asked.out
    assert "up to date" not in asked.out + hubcli("upgrade").out
    lock = tmp_path / "adapters.lock"
    lock.write_text(lock.read_text().replace('status = "active"', 'status = "quarantined"'))
    synced = hubcli("sync", cwd=tmp_path)
    assert synced.code == 6
    assert "nothing is locked" not in synced.out


def test_a_version_that_is_not_there_is_said_without_the_sign_before_it(index: IndexFolder) -> None:
    assert "acme/one has no version 9.0 (there are: " in hubcli("install", "acme/one@9.0").err
    unnamed = hubcli("yank", "acme/one", "--reason", "x", "--index", str(index.folder))
    assert unnamed.code == 2 and "hint: acme/one@VERSION; 'hubcli info acme/one' shows them" in unnamed.err


def test_what_is_yanked_and_deprecated_is_listed_as_both(index: IndexFolder) -> None:
    document = index.add("acme/both")
    hubcli("install", "acme/both")
    yanked = {"reason": "label leak", "date": "2026-02-02T00:00:00Z"}
    document["releases"][0].update(yanked=yanked, status="deprecated", status_reason="old data")
    index.write("acme/both", document)
    hubcli("index", "update")
    said = "yanked: label leak; also deprecated: old data"
    assert said in hubcli("list").out and said in hubcli("outdated").out
