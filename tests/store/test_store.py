"""What the store keeps and gives up: prune, records, old stores, names, leftovers."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from hubcli.hub.sources import Sources
from hubcli.installer import install_resolved, repair
from hubcli.manifest import Installed
from hubcli.paths import bundled
from hubcli.store import Store
from hubcli.store.layout import Layout, owner_is_gone
from tests.store.faulty import raised
from tests.store.samples import FILES, SHARED, WEIGHTS, Shelf, adapter, sha

# Prune


def test_row_50_prune_takes_what_nothing_uses_and_nothing_else(shelf: Shelf, store: Store) -> None:
    one = install_resolved(adapter(shelf, "test/one", "1.0.0"), store, Sources())
    two = install_resolved(adapter(shelf, "test/two", "1.0.0"), store, Sources())
    assert not store.prune().blobs
    store.remove(one)
    only = sha(b"test/one 1.0.0\n")
    assert store.prune(dry_run=True).blobs == (only,) and store.layout.blob(only).exists()
    pruned = store.prune()
    assert pruned.blobs == (only,) and pruned.freed == len(b"test/one 1.0.0\n")
    assert not store.layout.blob(only).exists() and store.layout.blob(sha(SHARED)).exists()
    assert store.verify(two).ok and not store.prune().blobs


def test_row_44_a_blob_that_an_install_holds_is_left_for_a_while(shelf: Shelf, store: Store, tmp_path: Path) -> None:
    store.remove(install_resolved(shelf.resolved(), store, Sources()))
    os.link(store.layout.blob(sha(WEIGHTS)), tmp_path / "held")
    assert sha(WEIGHTS) not in store.prune().blobs
    assert store.prune(grace=0).blobs == (sha(WEIGHTS),)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[", b'{"sha256": "0", "record": {"v": 1}}', b'{"sha256": "0", "record": {"v": 2}}']
)
def test_row_50_one_record_that_cant_be_read_stops_prune_and_nothing_else(
    installed: Installed, shelf: Shelf, store: Store, body: bytes
) -> None:
    other = install_resolved(adapter(shelf, "test/one", "1.0.0"), store, Sources())
    orphan = install_resolved(adapter(shelf, "test/two", "1.0.0"), store, Sources())
    store.remove(orphan)
    record = Path(installed.path) / ".hubcli.json"
    record.chmod(0o644)
    record.write_bytes(body)
    error = raised("E_FAILED", store.prune)
    assert error.exit_code == 1 and str(record) in error.message
    assert store.layout.blob(sha(b"test/two 1.0.0\n")).exists()
    assert [item.record.name for item in store.installed()] == ["test/one"] and store.verify(other).ok
    (broken,) = store.broken()
    assert (broken.name, broken.version) == ("test/demo", "1.0.0") and store.verify(broken).status == "unverifiable"
    store.remove(broken)
    assert sha(b"test/two 1.0.0\n") in store.prune().blobs


def test_row_54_a_record_of_a_newer_hubcli_is_named(installed: Installed, store: Store) -> None:
    path = Path(installed.path) / ".hubcli.json"
    record = json.loads(path.read_text())["record"] | {"v": 2}
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    path.chmod(0o644)
    path.write_text(json.dumps({"sha256": sha(text.encode()), "record": record}))
    (broken,) = store.broken()
    assert "version 2" in broken.error.message and "upgrade" in str(broken.error.hint)
    assert store.verify(broken).status == "unverifiable"


def test_row_49_a_shortened_file_is_told_from_a_changed_one(installed: Installed, store: Store) -> None:
    for name, body, id in (("README.md", b"", "E_SIZE"), ("adapter_model.safetensors", WEIGHTS[:-1] + b"x", "E_HASH")):
        path = Path(installed.path) / name
        path.unlink()
        path.write_bytes(body)
        found = store.verify(installed)
        assert found.status == "modified" and [p.id for p in found.problems if p.path == name] == [id]
        assert sha(FILES[name]) in str(found.problems) and sha(body) in str(found.problems)


def test_a_record_with_one_changed_field_is_refused(installed: Installed, store: Store) -> None:
    record = Path(installed.path) / ".hubcli.json"
    record.chmod(0o644)
    record.write_text(record.read_text().replace(sha(WEIGHTS), sha(b"evil")))
    (broken,) = store.broken()
    assert broken.error.id == "E_STORE_TAMPERED" and not store.installed()


# Versions, records, leftovers


def test_row_54_a_store_of_a_newer_hubcli_is_named(home: Path) -> None:
    (home / "store" / "v7").mkdir(parents=True)
    error = raised("E_FAILED", Store, home)
    assert "version 7" in error.message and "version 1" in error.message and "upgrade" in str(error.hint)


GOLDEN = Path(__file__).parent / "golden" / "v1"


def test_row_54_the_store_of_the_first_release_still_reads(home: Path) -> None:
    shutil.copytree(GOLDEN, home / "store" / "v1")
    store = Store(home)
    found = {(item.record.name, item.record.version): store.verify(item).status for item in store.installed()}
    assert found == {("test/demo", "1.0.0"): "ok", ("hf:acme/demo", "c" * 40): "ok"} and not store.broken()


def test_records_are_as_their_schema_says(installed: Installed) -> None:
    schema = json.loads((bundled("schemas") / "manifest.schema.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for record in [Path(installed.path) / ".hubcli.json", *GOLDEN.rglob(".hubcli.json")]:
        validator.validate(json.loads(record.read_bytes()))
    assert not validator.is_valid({"sha256": "x", "record": {}})


@pytest.mark.parametrize("name", ["../x", "a/../b", "a", "a/b/c", "A/b", "hf:../x", "hf:a/b/c", "", "/a/b", "a/b\n"])
def test_a_name_never_leaves_the_store(name: str, tmp_path: Path) -> None:
    raised("E_PATH_UNSAFE", Layout(tmp_path).adapter, name, "1.0.0")


@pytest.mark.parametrize("version", ["..", "1/2", "", ".", "1\n", "a\\b"])
def test_a_version_never_leaves_the_store(version: str, tmp_path: Path) -> None:
    raised("E_PATH_UNSAFE", Layout(tmp_path).adapter, "a/b", version)


def test_doctor_takes_what_the_dead_left_and_not_what_the_living_make(store: Store) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine = store.layout.fresh("new")
    left = mine.with_name(mine.name.replace(f"{os.getpid()}@", f"{dead.pid}@"))
    for path in (mine, left):
        path.mkdir(parents=True)
        (path / "file").write_text("x")
    assert (owner_is_gone(mine), owner_is_gone(left)) == (False, True)
    assert [f.path for f in store.doctor()] == [str(left)] and left.exists()
    assert [f.fixed for f in store.doctor(fix=True)] == [True]
    assert mine.exists() and not left.exists() and not store.doctor()


def test_uninstalling_leaves_no_empty_folders(installed: Installed, store: Store) -> None:
    store.remove(installed)
    assert not list(store.layout.adapters.iterdir()) and store.installed() == []
    raised("E_NOT_FOUND", store.remove, installed)


def test_where_links_are_not_supported_files_are_copied(
    shelf: Shelf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def no_links(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    done = install_resolved(shelf.resolved(), store, Sources())
    assert store.verify(done).ok and store.layout.blob(sha(WEIGHTS)).stat().st_nlink == 1
    store.remove(done)
    again = install_resolved(dataclasses.replace(shelf.resolved(), file_roots=()), store, Sources())
    assert store.verify(again).ok
    assert set(store.prune().blobs) == set()


def test_a_damaged_blob_is_never_taken(installed: Installed, shelf: Shelf, store: Store) -> None:
    blob = store.layout.blob(sha(WEIGHTS))
    blob.chmod(0o644)
    blob.write_bytes(WEIGHTS[:-1] + b"x")
    (problem,) = store.verify(installed).problems
    assert problem.path == "adapter_model.safetensors"
    assert repair(installed, store, Sources(), shelf.resolved()).ok
    assert blob.read_bytes() == WEIGHTS
