"""Repositories of AdapterHub's library, and pickled weights, from a live hub: installed as safetensors alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file

from hubcli import api, load_adapter
from hubcli.errors import NotFoundError, UnsafeFormatError
from hubcli.manifest import FileSpec
from hubcli.store import Store
from tests.api.hub_repos import adapter_folder, at_hub, base_folder
from tests.support.cli import hubcli
from tests.support.hub_server import LiveHub, allow_loopback, client_environment

pytestmark = pytest.mark.filterwarnings("ignore")
GOLDENS = Path(__file__).parents[1] / "fixtures" / "adapterhub" / "bert"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveHub]:
    """A hub with an AdapterHub adapter and its head, as the library writes them: acme/old, of pickles, and acme/new."""
    allow_loopback(monkeypatch)
    old = tmp_path / "old"
    shutil.copytree(GOLDENS / "adapters" / "sst_with_head", old)
    (old / "README.md").write_text("# a card\n")
    api.convert(old, to="adapterhub", out=tmp_path / "new")
    with LiveHub(tmp_path / "hub") as live:
        live.import_folder("acme/old", old, tag="v1")
        live.import_folder("acme/new", tmp_path / "new")
        at_hub(monkeypatch, live, tmp_path / "client")
        yield live


def hidden(ref: str) -> torch.Tensor:
    """The logits of the adapter's own head on the goldens' inputs."""
    adapted = load_adapter(ref, tf.BertModel.from_pretrained(GOLDENS / "base").eval(), allow_base_mismatch=True)
    with torch.no_grad():
        return adapted(**load_file(GOLDENS / "inputs.safetensors")).logits  # type: ignore[no-any-return]


def folder_of(document: dict[str, Any]) -> Path:
    return Path(document["installed"][0]["path"])


def test_an_adapterhub_repository_installs_without_an_entry(hub: LiveHub) -> None:
    done = api.install("hf:acme/new")["installed"][0]
    assert (done["method"], done["base"]) == ("bottleneck", "bert/base")
    names = ["README.md", "adapter.safetensors", "adapter_config.json", "head_config.json", "model_head.safetensors"]
    assert [file["path"] for file in done["files"]] == names
    assert torch.equal(hidden("hf:acme/new"), hidden(str(GOLDENS / "adapters" / "sst_with_head")))
    assert not api.install("hf:acme/new")["installed"][0]["changed"] and api.verify()["ok"]


def test_pickled_weights_are_refused_and_the_way_is_named(hub: LiveHub, home: Path) -> None:
    with pytest.raises(UnsafeFormatError, match=r"pytorch_adapter\.bin") as refused:
        api.install("hf:acme/old")
    assert refused.value.hint is not None and "--convert-bin" in refused.value.hint
    assert not hub.seen(within=".bin") and api.list() == {"adapters": [], "problems": []}


def test_pickled_weights_become_safetensors_with_both_hashes(hub: LiveHub, home: Path) -> None:
    answer = hubcli("install", "hf:acme/old@v1", "--convert-bin", "--json")
    assert answer.code == 0 and "was a pickle: converted" in answer.err
    files = {file["path"]: file for file in answer.document["installed"][0]["files"]}
    store, folder = Store(home), folder_of(answer.document)
    assert {file.name for file in folder.iterdir()} == {*files, ".hubcli.json"} and not list(home.rglob("*.bin"))
    for safe, pickled in (
        ("adapter.safetensors", "pytorch_adapter.bin"),
        ("model_head.safetensors", "pytorch_model_head.bin"),
    ):
        original = GOLDENS / "adapters" / "sst_with_head" / pickled
        made, fetched = files[safe], files[safe]["converted_from"]
        assert (fetched["path"], fetched["size"], fetched["sha256"]) == (pickled, *_digest(original)[1:])
        assert (made["size"], made["sha256"]) == _digest(folder / safe)[1:]
        kept, before = load_file(folder / safe), torch.load(original, weights_only=True)
        assert kept.keys() == before.keys() and all(torch.equal(kept[key], before[key]) for key in kept)
    recorded = {spec.path: spec for spec in store.installed()[0].record.release.files}
    assert all(recorded[path].converted_from is not None for path in files if path.endswith(".safetensors"))
    assert torch.equal(hidden("hf:acme/old"), hidden(str(GOLDENS / "adapters" / "sst_with_head")))
    fetched_before = len(hub.seen(within=".bin"))
    assert not api.install("hf:acme/old@v1", convert_bin=True)["installed"][0]["changed"]
    assert len(hub.seen(within=".bin")) == fetched_before and not list((store.path / "tmp").glob("*-*"))


def _digest(file: Path) -> tuple[str, int, str]:
    return file.name, file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_damaged_one_is_repaired_and_upgrades_without_asking_again(hub: LiveHub, tmp_path: Path) -> None:
    folder = folder_of(api.install("hf:acme/old", convert_bin=True))
    weights = folder / "adapter.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"x")
    assert not api.verify()["ok"]
    assert api.verify(repair=True)["ok"] and api.verify()["ok"]
    (tmp_path / "old" / "README.md").write_text("# another card\n")
    newer = hub.import_folder("acme/old", tmp_path / "old")
    assert [row["latest"] for row in api.outdated()["outdated"]] == [newer]
    assert [row["version"] for row in api.upgrade()["installed"]] == [newer]


def test_lock_and_sync_carry_it(hub: LiveHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "adapters.toml").write_text('[adapters]\n"hf:acme/old" = "v1"\n')
    assert hubcli("lock", "--project", str(project)).code == 6
    assert hubcli("lock", "--project", str(project), "--convert-bin").code == 0
    text = (project / "adapters.lock").read_text()
    assert "pytorch_adapter.bin" in text and "converted_from" in text
    assert hubcli("lock", "--project", str(project), "--check").code == 0
    assert hubcli("lock", "--project", str(project), "--upgrade").code == 0, "what was taken once is not asked again"
    assert (project / "adapters.lock").read_text() == text
    monkeypatch.setenv("HUBCLI_HOME", str(home.parent / "another"))
    answer = hubcli("sync", "--project", str(project), "--json")
    assert answer.code == 0 and answer.document["installed"][0]["changed"]
    assert api.verify()["ok"] and "pickle" in answer.err


def test_a_dry_run_says_what_would_be_converted_and_fetches_nothing(hub: LiveHub, home: Path) -> None:
    answer = hubcli("install", "hf:acme/old", "--convert-bin", "--dry-run", "--json")
    rows = {file["path"]: file for file in answer.document["installed"][0]["files"]}
    assert answer.code == 0 and rows["adapter.safetensors"]["sha256"] == ""
    assert rows["adapter.safetensors"]["converted_from"]["path"] == "pytorch_adapter.bin"
    assert not hub.seen(within=".bin") and not list((home / "store").rglob("*.safetensors"))


def test_safetensors_are_taken_where_both_are_there(hub: LiveHub, tmp_path: Path) -> None:
    shutil.copyfile(GOLDENS / "adapters" / "seq_bn" / "pytorch_adapter.bin", tmp_path / "new" / "pytorch_adapter.bin")
    hub.import_folder("acme/both", tmp_path / "new")
    files = api.install("hf:acme/both", convert_bin=True)["installed"][0]["files"]
    assert not [file for file in files if "converted_from" in file] and not hub.seen(within=".bin")


def test_a_pickled_peft_adapter_gives_what_its_safetensors_give(hub: LiveHub, tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base")
    safe = adapter_folder(tmp_path / "safe", base, None, classes=3, labels=["bad", "mixed", "good"])
    pickled = tmp_path / "pickled"
    shutil.copytree(safe, pickled)
    torch.save(load_file(safe / "adapter_model.safetensors"), pickled / "adapter_model.bin")
    (pickled / "adapter_model.safetensors").unlink()
    (pickled / "training_args.bin").write_bytes(b"never fetched")
    hub.import_folder("acme/peft", pickled)
    done = api.install("hf:acme/peft", convert_bin=True)["installed"][0]
    assert "config.json" in {file["path"] for file in done["files"]} and not hub.seen(within="training_args")
    answers = []
    for ref in ("hf:acme/peft", str(safe), str(pickled)):
        torch.manual_seed(0)
        model = tf.BertForSequenceClassification.from_pretrained(base, num_labels=3)
        tokenizer = tf.AutoTokenizer.from_pretrained(base)
        adapted = load_adapter(ref, model)
        adapted.tokenizer = tokenizer
        answers.append(adapted.predict(["the film was superb"]))
    assert answers[0] == answers[1] == answers[2] and answers[0][0].label in ("bad", "mixed", "good")
    api.convert(pickled, to="peft", out=tmp_path / "again")
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (safe, tmp_path / "again"))
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_a_fusion_alone_is_refused_by_name(hub: LiveHub) -> None:
    hub.import_folder("acme/fusion", GOLDENS / "fusions" / "seq_bn,seq_bn_b")
    with pytest.raises(NotFoundError, match="fusion of AdapterHub's"):
        api.install("hf:acme/fusion", convert_bin=True)


def test_an_index_promises_no_pickle(hub: LiveHub) -> None:
    """The field stands in records and locks alone; a release of an index is what its schema allows."""
    schema = json.loads((ROOT / "schemas" / "index-entry.schema.json").read_text())
    assert "converted_from" not in json.dumps(schema)
    assert "converted_from" not in FileSpec("a", 1, "0" * 64, "weights").to_json()


def install_in_a_process(hub: LiveHub, home: Path, client: Path, fault: str = "") -> subprocess.Popen[str]:
    environment = client_environment(hub, client) | {"HUBCLI_HOME": str(home), "HUBCLI_FAULT_POINT": fault}
    command = [sys.executable, "-m", "hubcli", "install", "hf:acme/old", "--convert-bin", "--json"]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def is_gone(group: int) -> bool:
    """Whether no process of a group is left, within some seconds."""
    for _ in range(400):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        threading.Event().wait(0.05)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("point", ["before-convert", "after-convert", "after-convert:2", "before-blob", "after-rename"])
def test_killed_in_the_middle_it_leaves_a_clean_store(hub: LiveHub, home: Path, tmp_path: Path, point: str) -> None:
    process = install_in_a_process(hub, home, tmp_path / "client", point)
    said = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, said
    assert is_gone(process.pid), "the child that reads pickles ends with its parent"
    store = Store(home)
    assert not store.broken() and len(store.installed()) == (point == "after-rename")
    store.doctor(fix=True)
    assert not list((store.path / "tmp").glob("*-*")) and not list(home.rglob("*.bin"))
    assert api.install("hf:acme/old", convert_bin=True)["installed"][0]["changed"] == (point != "after-rename")
    assert api.verify()["ok"]


@pytest.mark.slow
def test_many_at_once_share_one_conversion(hub: LiveHub, home: Path, tmp_path: Path) -> None:
    processes = [install_in_a_process(hub, home, tmp_path / "client") for _ in range(3)]
    answers = [process.communicate()[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), answers
    assert len(hub.seen("GET", "pytorch_adapter.bin")) == 1 and api.verify()["ok"]
    assert all(is_gone(process.pid) for process in processes)
