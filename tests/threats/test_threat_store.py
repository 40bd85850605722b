"""Locks that are held, full disks and tampering with the store (rows 46 to 50)."""

from __future__ import annotations

import codecs
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hubcli import api
from hubcli.store import Store
from tests.support.adapters import BASE_ID, IndexFolder, lora_files
from tests.threats.conftest import is_sound, shared
from tests.threats.doors import Door, Outcome, footprint, threat
from tests.threats.payloads import FILES, WEIGHTS

Refused = Callable[..., Outcome]


@threat(46, {"no wait": {"no_wait": True}, "a short wait": {}})
def test_a_lock_that_is_held(
    door: Door, case: dict[str, Any], index: IndexFolder, home: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add("acme/demo")
    store = Store(home)
    monkeypatch.setenv("HUBCLI_LOCK_TIMEOUT", "0.05")
    with store.lock("acme/demo"):
        outcome = refused(door, "E_BUSY", 8, "install", "acme/demo", **case)
    for part in ("adapter acme/demo", str(store.layout.lock("acme/demo")), "HUBCLI_LOCK_TIMEOUT"):
        assert part in outcome.text
    assert door.install("acme/demo").code == 0


@threat(47, [0, 10_000, 2 << 20])
def test_a_disk_that_is_full(door: Door, case: int, index: IndexFolder, home: Path, tmp_path: Path) -> None:
    shared(index, "acme/demo")
    api.search("demo")
    before = footprint(tmp_path, home.parent)
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({case}, resource.RLIM_INFINITY))"
    process = door.process("install", "acme/demo", before=limit)
    output = process.communicate()[0]
    assert process.returncode == 8 and "bytes needed" in output and "free" in output, output
    assert footprint(tmp_path, home.parent) == before and not api.list()["adapters"]
    assert door.install("acme/demo").code == 0


@pytest.fixture
def read_only(index: IndexFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with one adapter that this process can read and not write, also where the tests run as root."""
    folder = Path(tempfile.mkdtemp())
    monkeypatch.setenv("HUBCLI_HOME", str(folder / "home"))
    IndexFolder(folder / "index").add("acme/demo", "1.0.0", "1.1.0")
    api.index_add("acme", str(folder / "index"))
    api.install("acme/demo@1.0.0")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    codecs.lookup("ascii")  # Python remembers that it found none
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    monkeypatch.chdir("/")
    yield folder
    if root:
        os.seteuid(0)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    shutil.rmtree(folder)


@threat(47)
def test_a_store_that_can_only_be_read(door: Door, read_only: Path) -> None:
    before = footprint(read_only)
    assert [row["name"] for row in door("list").document["adapters"]] == ["acme/demo"]
    assert door("verify").document["ok"] and door("search", "demo").code == 0 and door("cache size").code == 0
    assert door("info", "acme/demo").code == 0 and door("outdated").code == 0
    for command, arguments in (("install", ("acme/demo",)), ("uninstall", ("acme/demo",)), ("cache prune", ())):
        outcome = door(command, *arguments)
        assert (outcome.id, outcome.code) == ("E_DISK", 8), (command, outcome.text)
    assert footprint(read_only) == before


@pytest.fixture
def exported(home: Path) -> Iterator[Path]:
    """A folder with a tiny base, after an export there: who can read a store alone may not be able to load modules either."""
    import transformers

    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        transformers.BertModel(transformers.BertConfig(vocab_size=30, **sizes)).save_pretrained(BASE_ID)
        Path("own").mkdir()
        for file, data in lora_files().items():
            Path("own", file).write_bytes(data)
        api.export("./own", to="pt2", out="own.pt2")
        for path in (Path(name), *Path(name).rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        yield Path(name)


@threat(47)
def test_an_export_from_a_store_that_can_only_be_read(
    door: Door, exported: Path, read_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = footprint(read_only)
    monkeypatch.chdir(exported)
    report = door("export", "acme/demo", to="pt2", out="made.pt2").document
    assert report["written"] and (exported / "made.pt2").stat().st_size == report["size"]
    assert footprint(read_only) == before


def installed(index: IndexFolder) -> Path:
    index.add("acme/demo", files=FILES)
    return Path(api.install("acme/demo")["installed"][0]["path"])


@threat(48, ["file", "record", "folder", "extra"])
def test_a_link_in_an_adapter(door: Door, case: str, index: IndexFolder, tmp_path: Path) -> None:
    folder, outside = installed(index), tmp_path / "outside"
    outside.mkdir()
    path = folder / {"file": "README.md", "record": ".hubcli.json", "folder": "", "extra": "more.md"}[case]
    if case == "extra":
        path.symlink_to("/etc/passwd")
    else:
        path.rename(outside / "moved")
        path.symlink_to(outside / "moved")
    before = footprint(outside)
    document = door("verify").document
    assert not document["ok"] and "link" in str(document["adapters"]), document
    outcome = door("cache prune")
    assert outcome.code == (1 if case in ("record", "folder") else 0)
    assert footprint(outside) == before


@threat(48, ["blob", "shard", "blobs"])
def test_a_link_among_the_blobs(door: Door, case: str, index: IndexFolder, home: Path, tmp_path: Path) -> None:
    installed(index)
    store = Store(home)
    (item,) = store.installed()
    (spec,) = (spec for spec in item.record.release.files if spec.path == WEIGHTS)
    blob = store.layout.blob(spec.sha256)
    path = {"blob": blob, "shard": blob.parent, "blobs": store.layout.blobs}[case]
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    api.uninstall("acme/demo")
    before = footprint(tmp_path)
    for command, arguments in (("cache prune", ()), ("install", ("acme/demo",))):
        outcome = door(command, *arguments)
        assert (outcome.id, outcome.code) == ("E_STORE_TAMPERED", 4), (command, outcome.text)
    assert footprint(tmp_path) == before and not api.list()["adapters"]


@threat(49, ["edited", "one bit", "missing", "extra"])
def test_a_file_that_changed(door: Door, case: str, index: IndexFolder) -> None:
    path = installed(index) / WEIGHTS
    if case == "extra":
        path = path.with_name("more.txt")
        path.write_text("more")
    elif case == "missing":
        path.unlink()
    else:
        body = path.read_bytes()
        path.unlink()
        path.write_bytes(body + b"x" if case == "edited" else body[:-1] + bytes([body[-1] ^ 1]))
    outcome = door("verify")
    (row,) = outcome.document["adapters"]
    assert row["status"] == {"missing": "missing", "extra": "extra"}.get(case, "modified")
    assert path.name in row["problems"][0] and "expected" in row["problems"][0] and "found" in row["problems"][0]
    assert outcome.code == (4 if door.name == "cli" else 0)
    assert door("verify", repair=True).document["adapters"][0]["repaired"]
    is_sound()


@threat(50, {"empty": b"", "no JSON": b"[", "another version": b'{"sha256": "0", "record": {"v": 2}}'})
def test_one_record_that_cant_be_read(door: Door, case: bytes, index: IndexFolder, home: Path) -> None:
    record = installed(index) / ".hubcli.json"
    shared(index, "acme/other")
    api.install("acme/other")
    api.uninstall("acme/other")
    record.unlink()
    record.write_bytes(case)
    before = footprint(home)
    outcome = door("cache prune")
    assert (outcome.id, outcome.code) == ("E_FAILED", 1) and str(record) in outcome.text
    assert footprint(home) == before
    assert door("verify").document["adapters"][0]["status"] == "unverifiable"


@threat(50)
def test_what_is_used_is_never_pruned(door: Door, index: IndexFolder, home: Path) -> None:
    shared(index, "acme/demo", "acme/other")
    api.install("acme/demo", "acme/other")
    api.uninstall("acme/other")
    blobs = set((home / "store/v1/blobs").glob("??/*"))
    assert len(door("cache prune").document["removed"]) == 1
    assert len(blobs) - len(set((home / "store/v1/blobs").glob("??/*"))) == 1
    is_sound()
