"""The store and the disk below it: order of writes, locks, full and read-only disks, links."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hubcli.hub.sources import Sources
from hubcli.installer import install_resolved, repair
from hubcli.manifest import Installed
from hubcli.store import Store, files, locking
from tests.store.faulty import raised
from tests.store.samples import FILES, WEIGHTS, Shelf, adapter, everything_under, sha

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
