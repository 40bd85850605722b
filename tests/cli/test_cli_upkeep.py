"""cache, doctor, plugins and completion on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hubcli.store import Store
from tests.support.adapters import IndexFolder
from tests.support.cli import hubcli

GOLDEN = Path(__file__).parents[1] / "fixtures" / "adapterhub" / "bert" / "adapters" / "seq_bn"


def test_cache_prune_never_removes_what_is_used(index: IndexFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    hubcli("install", "acme/one@1.0.0", "acme/one@1.1.0")
    hubcli("uninstall", "acme/one@1.0.0")
    monkeypatch.setattr("hubcli.store.prune.GRACE_SECONDS", 0)
    size = hubcli("cache", "size", "--json").document
    assert 0 < size["unused_bytes"] < size["bytes"]
    planned = hubcli("cache", "prune", "--dry-run", "--json").document
    assert hubcli("cache", "prune", "--json").document["removed"] == planned["removed"]
    assert hubcli("verify").code == 0
    assert hubcli("install", "acme/one@1.0.0").code == 0, "what was pruned can be had again"


def test_what_local_pickles_became_is_counted_and_pruned(home: Path, tmp_path: Path) -> None:
    for _ in range(2):  # what was pruned is made again
        out = ["--to", "adapterhub", "--out", str(tmp_path / "out"), "--force"]
        assert hubcli("convert", str(GOLDEN), *out).code == 0
        (made,) = (home / "cache" / "converted").glob("*.safetensors")
        (made.parent / "of another process.part").touch()
        size = hubcli("cache", "size", "--json").document
        assert size["converted_bytes"] == size["unused_bytes"] == size["bytes"] == made.stat().st_size
        planned = hubcli("cache", "prune", "--dry-run", "--json").document
        assert planned == {"removed": [str(made)], "bytes": made.stat().st_size} and made.exists()
        assert hubcli("cache", "prune", "--json").document == planned
        assert [file.name for file in made.parent.iterdir()] == ["of another process.part"]
    assert hubcli("cache", "size", "--json").document["converted_bytes"] == 0


def test_cache_prune_says_what_it_waits_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBCLI_LOCK_TIMEOUT", "0.05")
    with Store(home).lock("store"):
        answer = hubcli("cache", "prune")
    assert answer.code == 8
    assert "waiting for the store" in answer.err


def test_cache_dir_is_where_the_store_is(index: IndexFolder) -> None:
    (done,) = hubcli("install", "acme/one", "--json").document["installed"]
    assert Path(done["path"]).is_relative_to(hubcli("cache", "dir", "--json").document["path"])


def test_row_50_prune_refuses_when_a_record_cannot_be_read(index: IndexFolder) -> None:
    (done,) = hubcli("install", "acme/one", "--json").document["installed"]
    record = Path(done["path"]) / ".hubcli.json"
    record.chmod(0o644)
    record.write_text("{")
    answer = hubcli("cache", "prune", "--json")
    assert answer.code == 1
    assert str(record) in answer.document["error"]["message"]
    listed = hubcli("list", "--json")
    assert (listed.code, len(listed.document["problems"])) == (0, 1)
    assert hubcli("verify", "--json").document["adapters"][0]["status"] == "unverifiable"
    assert hubcli("verify", "--repair").code == 0
    assert hubcli("cache", "prune").code == 0


def test_doctor_is_green_on_a_fresh_home_and_names_a_fault(index: IndexFolder) -> None:
    answer = hubcli("doctor", "--json")
    assert answer.code == 0, answer.out
    (index.folder / "acme/one.json").write_text("{")
    broken = hubcli("doctor", "--json")
    assert broken.code == 1
    assert [c["name"] for c in broken.document["checks"] if not c["ok"]] == ["index acme"]


def test_plugins(index: IndexFolder) -> None:
    rows = hubcli("plugins", "list", "--json").document["plugins"]
    assert {"lora", "base-packaged"} <= {row["name"] for row in rows}
    document = hubcli("plugins", "info", "lora", "--json").document
    assert {"r", "lora_alpha", "target_modules"} <= set(document["config_keys"])
    assert document["claims"].startswith("peft LORA")
    assert hubcli("plugins", "doctor", "base-packaged", "--json").document["ok"] is True


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    assert "_HUBCLI_COMPLETE" in json.loads(hubcli("completion", shell, "--json").out)["script"]
