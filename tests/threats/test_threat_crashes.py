"""Processes that are killed, and many at once (rows 42 to 45)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hubcli import api
from hubcli.paths import home as home_folder
from hubcli.store import Store
from hubcli.store.faults import POINTS
from tests.support.adapters import IndexFolder, entry, lora_files, release
from tests.threats.conftest import is_sound, shared
from tests.threats.doors import Door, Outcome, threat
from tests.threats.payloads import BIG, FILES

Refused = Callable[..., Outcome]
OF_INSTALL = [point for point in POINTS if not point.endswith(("aside", "convert"))]


def killed_and_run_again(door: Door, point: str, command: str, version: str, kept: list[str]) -> None:
    process = door.process(command, "acme/demo", environment={"HUBCLI_FAULT_POINT": point})
    output = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, output
    is_sound()
    complete = point in ("after-rename", "before-unlock")
    assert [row["version"] for row in api.list()["adapters"]] == kept + [version] * complete
    assert all(finding.fixed for finding in Store(home_folder()).doctor(fix=True))
    assert door(command, "acme/demo").code == 0
    is_sound()
    assert [row["version"] for row in api.list()["adapters"]] == [*kept, version]


@threat(42, OF_INSTALL)
def test_an_install_that_is_killed(door: Door, case: str, index: IndexFolder) -> None:
    shared(index, "acme/demo")
    killed_and_run_again(door, case, "install", "1.0.0", [])


def upgrade_killed(door: Door, point: str, index: IndexFolder) -> None:
    index.add("acme/demo", "1.0.0")
    api.install("acme/demo")
    index.put(BIG)
    old = release(lora_files(fill=0.01 + len("acme/demo") / 1000), "1.0.0")
    index.write("acme/demo", entry("acme/demo", [old, release(BIG, "1.1.0")]))
    killed_and_run_again(door, point, "upgrade", "1.1.0", ["1.0.0"])


@threat(42, ["each-mib", "after-blob", "before-rename", "after-rename"])
def test_an_upgrade_that_is_killed(door: Door, case: str, index: IndexFolder) -> None:
    upgrade_killed(door, case, index)


@pytest.mark.slow
@threat(42, [p for p in OF_INSTALL if p not in ("each-mib", "after-blob", "before-rename", "after-rename")])
def test_an_upgrade_that_is_killed_elsewhere(door: Door, case: str, index: IndexFolder) -> None:
    upgrade_killed(door, case, index)


@threat(43)
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to name what is flushed")
def test_bytes_are_on_the_disk_before_a_name_points_at_them(
    door: Door, index: IndexFolder, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add("acme/demo", files=FILES)
    events: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def flushed(handle: int) -> None:
        events.append(("fsync", os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def renamed(source: Any, target: Any, **options: Any) -> None:
        rename(source, target, **options)
        events.append(("rename", str(target)))

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "rename", renamed)
    assert door.install("acme/demo").code == 0
    monkeypatch.undo()
    target = str(home / "store/v1/adapters/acme/demo/1.0.0")
    appears = events.index(("rename", target))
    before = [path for what, path in events[:appears] if what == "fsync"]
    for name in FILES:
        assert [p for p in before if ".part-" in p or p.endswith(name)], name
    assert len([p for p in before if ".part-" in p]) == len(FILES)
    record = max(n for n, (what, p) in enumerate(events) if what == "fsync" and p.endswith(".hubcli.json"))
    folder = max(n for n, (what, p) in enumerate(events[:appears]) if what == "fsync" and "/tmp/" in p)
    parent = [n for n, (what, p) in enumerate(events) if what == "fsync" and p == str(Path(target).parent)]
    assert record <= folder < appears < max(parent)


UNLOCKED = "from hubcli.store import locking; from tests.store.driver import no_lock; locking.hold = no_lock"


@threat(44, ["install", "upgrade and list", "uninstall and prune"])
def test_processes_at_once(door: Door, case: str, index: IndexFolder) -> None:
    race(door, case, index, before="")


@threat(44)
def test_an_index_that_another_process_reads_too(
    door: Door, index: IndexFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its builder's temporary file is there when the folder is listed, and renamed a moment later."""
    index.add("acme/demo")
    real = os.scandir

    def listed(path: Any) -> Any:
        if "indexes" not in str(path):
            return real(path)
        other = Path(path) / "view-1-other.tmp"
        other.touch()
        entries = list(real(path))
        other.unlink()
        return iter(entries)

    monkeypatch.setattr(os, "scandir", listed)
    assert door.install("acme/demo").code == 0


@threat(45, ["install", "uninstall and prune"])
def test_processes_at_once_with_a_lock_that_lies(door: Door, case: str, index: IndexFolder) -> None:
    race(door, case, index, before=UNLOCKED)


def race(door: Door, case: str, index: IndexFolder, before: str) -> None:
    shared(index, "acme/demo", "acme/other")
    if case != "install":
        api.install("acme/demo")
    calls: list[tuple[str, ...]] = {
        "install": [("install", "acme/demo"), ("install", "acme/demo"), ("install", "acme/other")],
        "upgrade and list": [("upgrade",), ("list",), ("install", "acme/other")],
        "uninstall and prune": [("install", "acme/other"), ("uninstall", "acme/demo"), ("cache prune",)],
    }[case]
    processes = [door.process(*call, before=before) for call in calls]
    for call, process in zip(calls, processes, strict=True):
        output = process.communicate()[0]
        assert process.returncode in (0, 8), (call, output)
    is_sound()
    assert door.install("acme/demo", "acme/other").code == 0
    is_sound()
