"""What the store does beyond installing: order of writes, locks, full and read-only disks, links, prune, versions, doctor."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from hubcli.errors import HubcliError
from hubcli.hub.sources import Sources
from hubcli.installer import install_resolved, repair
from hubcli.manifest import Installed
from hubcli.paths import bundled
from hubcli.store import Store, files, locking
from hubcli.store.layout import Layout, owner_is_gone
from tests.store.samples import FILES, SHARED, WEIGHTS, Shelf, adapter, everything_under, sha


def raised(id: str, call: Any, *arguments: Any, **options: Any) -> HubcliError:
    with pytest.raises(HubcliError) as caught:
        call(*arguments, **options)
    assert caught.value.id == id, caught.value.message
    return caught.value


# Order of writes


class Recorder:
    """Notes writes, fsyncs, links and renames in their order, by path below the store."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch):
        self.root, self.events = root, []
        self._names: dict[int, str] = {}
        real = {name: getattr(os, name) for name in ("fsync", "rename", "replace", "link")}
        monkeypatch.setattr(
            os, "fsync", lambda fd: self.note("fsync", os.readlink(f"/proc/self/fd/{fd}")) or real["fsync"](fd)
        )
        for name in ("rename", "replace", "link"):
            monkeypatch.setattr(os, name, self.moving(name, real[name]))

    def moving(self, name: str, real: Any) -> Any:
        def moved(source: Any, target: Any, **options: Any) -> None:
            real(source, target, **options)
            self.note(name, str(source), str(target))

        return moved

    def note(self, what: str, *paths: str) -> None:
        self.events.append((what, *(os.path.relpath(path, self.root) for path in paths)))

    def at(self, what: str, test: Any) -> list[int]:
        return [n for n, (kind, *paths) in enumerate(self.events) if kind == what and test(*paths)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to name what is flushed")
def test_row_43_bytes_are_on_the_disk_before_names_point_at_them(
    shelf: Shelf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = shelf.resolved()
    log = Recorder(store.path, monkeypatch)
    install_resolved(resolved, store, Sources())
    monkeypatch.undo()
    for data in FILES.values():
        flushed = log.at("fsync", lambda path, data=data: path.endswith(f".part-{sha(data)}"))
        named = log.at("replace", lambda _, target, data=data: target == f"blobs/{sha(data)[:2]}/{sha(data)}")
        folder = log.at("fsync", lambda path, data=data: path == f"blobs/{sha(data)[:2]}")
        assert max(flushed) < min(named) < max(folder)
    record = log.at("fsync", lambda path: path.endswith(".hubcli.json"))
    staging = log.at("fsync", lambda path: path.startswith("tmp/") and path.count("/") == 1)
    appears = log.at("rename", lambda _, target: target == "adapters/test/demo/1.0.0")
    parent = log.at("fsync", lambda path: path == "adapters/test/demo")
    blobs = log.at("replace", lambda _, target: target.startswith("blobs/"))
    assert max(blobs) < min(record) < max(staging) < min(appears) < max(parent) and len(appears) == 1


# Locks


def test_row_46_a_lock_that_is_held_names_what_where_and_which_variable(
    shelf: Shelf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved, said = shelf.resolved(), []
    with store.lock("test/demo"):
        for no_wait, seconds in ((True, "300"), (False, "0.05")):
            monkeypatch.setenv("HUBCLI_LOCK_TIMEOUT", seconds)
            error = raised("E_BUSY", install_resolved, resolved, store, Sources(), no_wait=no_wait, warn=said.append)
            assert error.exit_code == 8
            text = f"{error.message} {error.hint}"
            assert all(
                part in text for part in ("test/demo", str(store.layout.lock("test/demo")), "HUBCLI_LOCK_TIMEOUT")
            )
    assert len(said) == 1 and "waiting for adapter test/demo" in said[0]
    assert install_resolved(resolved, store, Sources()).changed


def test_locks_of_other_adapters_are_free_and_the_fast_way_and_filelock_exclude_each_other(store: Store) -> None:
    import filelock

    with store.lock("test/demo"), store.lock("test/other"), pytest.raises(filelock.Timeout):
        filelock.FileLock(store.layout.lock("test/demo"), timeout=0).acquire()
    with filelock.FileLock(store.layout.lock("test/demo")):
        raised("E_BUSY", store.lock("test/demo", no_wait=True).__enter__)


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf"])
def test_a_lock_timeout_that_is_no_number_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBCLI_LOCK_TIMEOUT", text)
    assert "HUBCLI_LOCK_TIMEOUT" in raised("E_CONFIG", locking.wait_seconds).message


# Full and read-only disks


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from hubcli.errors import HubcliError
from tests.store import driver
try:
    driver.main("install", *sys.argv[2:])
except HubcliError as error:
    print(error.id, error.exit_code, error.message)
"""


@pytest.mark.parametrize("limit", [0, 10, 100, 200, 1000, 1 << 20, 2 << 20])
def test_row_47_a_disk_that_fills_at_any_write_leaves_nothing(shelf: Shelf, store: Store, limit: int) -> None:
    resolved = adapter(shelf, "test/one", "1.0.0")
    arguments = [str(limit), str(store.layout.home), str(shelf.folder), "test/one", "1.0.0"]
    done = subprocess.run(
        [sys.executable, "-c", FULL, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.startswith("E_DISK 8"), done
    needed = sum(f.size for f in resolved.release.files)
    assert f"{needed:,} bytes needed" in done.stdout and "free" in done.stdout
    assert not store.scan()[0] and not store.broken() and not list(store.layout.partial.glob("?" * 64))
    assert install_resolved(resolved, store, Sources()).changed


def test_row_47_too_little_room_is_seen_before_the_first_byte(
    shelf: Shelf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda path: 5)
    error = raised("E_DISK", install_resolved, shelf.resolved(), store, Sources())
    assert "5 free" in error.message and f"{sum(map(len, FILES.values())):,} bytes needed" in error.message
    assert not list(store.layout.tmp.glob("*@*"))


@pytest.fixture
def read_only(shelf: Shelf) -> Iterator[Store]:
    """A store with one adapter that this process can read and not write, also where the tests run as root."""
    folder = Path(tempfile.mkdtemp())
    home = folder / "home"
    store = Store(home)
    install_resolved(shelf.resolved(), store, Sources())
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield store
        os.seteuid(0)
    else:
        yield store
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


def test_row_47_a_read_only_store_lists_verifies_and_says_why_it_can_do_no_more(read_only: Store, shelf: Shelf) -> None:
    (item,) = read_only.installed()
    assert read_only.verify(item).ok and read_only.find("test/demo") == item and not read_only.doctor()
    assert read_only.size()[1] == len(FILES) and not read_only.prune(dry_run=True).blobs
    newer = dataclasses.replace(shelf_less(item), version="2.0.0")
    for call in (
        lambda: install_resolved(newer, read_only, Sources()),
        lambda: read_only.remove(item),
        read_only.prune,
    ):
        error = raised("E_DISK", call)
        assert error.exit_code == 8 and str(read_only.path) in error.message


def shelf_less(item: Installed) -> Any:
    from hubcli.manifest import Resolved

    record = item.record
    return Resolved(record.name, record.version, record.name, record.release, index="main")


# Links


@pytest.mark.parametrize("what", ["file", "folder", "group", "record", "extra"])
def test_row_48_links_in_an_adapter_are_named_and_never_followed(
    installed: Installed, store: Store, what: str, tmp_path: Path, shelf: Shelf
) -> None:
    folder, outside = Path(installed.path), tmp_path / "outside"
    outside.mkdir()
    if what in ("file", "record"):
        path = folder / ("README.md" if what == "file" else ".hubcli.json")
        (outside / path.name).write_bytes(path.read_bytes())
        path.unlink()
        path.symlink_to(outside / path.name)
    elif what == "extra":
        (folder / "more.md").symlink_to("/etc/passwd")
    else:
        path = folder if what == "folder" else folder.parent.parent
        moved = outside / "moved"
        path.rename(moved)
        path.symlink_to(moved)
    before = everything_under(outside)
    items: list[Any] = [*store.installed(), *store.broken()]
    problems = [problem for item in items for problem in store.verify(item).problems]
    assert {problem.id for problem in problems} == {"E_STORE_TAMPERED"}
    if what not in ("file", "extra"):
        raised("E_FAILED", store.prune)
    if what in ("file", "record", "extra"):
        resolved = shelf.resolved()
        assert repair(items[0], store, Sources(), resolved).ok
    assert everything_under(outside) == before


@pytest.mark.parametrize("what", ["blob", "shard", "blobs"])
def test_row_48_links_among_the_blobs_stop_prune_and_install(
    installed: Installed, store: Store, what: str, tmp_path: Path, shelf: Shelf
) -> None:
    blob = store.layout.blob(sha(WEIGHTS))
    path = {"blob": blob, "shard": blob.parent, "blobs": store.layout.blobs}[what]
    moved = tmp_path / "moved"
    path.rename(moved)
    path.symlink_to(moved)
    before = everything_under(tmp_path)
    store.remove(store.installed()[0])
    raised("E_STORE_TAMPERED", store.prune)
    raised("E_STORE_TAMPERED", install_resolved, shelf.resolved(), store, Sources())
    assert store.doctor() and everything_under(tmp_path) == before


def test_a_file_of_a_wrong_kind_is_no_file(installed: Installed, store: Store) -> None:
    path = Path(installed.path) / "README.md"
    path.unlink()
    os.mkfifo(path)
    (problem,) = store.verify(installed).problems
    assert (problem.id, problem.path) == ("E_STORE_TAMPERED", "README.md")


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
